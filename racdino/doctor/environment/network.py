"""RD951 to RD953: variables that say how programs reach the network. No connection is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from racdino.doctor.check import Group, Problem, check
from racdino.doctor.environment.subject import Environment
from racdino.doctor.finding import Severity

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_SCHEMES = ("http", "https", "socks4", "socks5", "socks5h")
_BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS")


@check(
    "RD951",
    Group.NETWORK,
    "proxy variables are addresses",
    remedy="write it as `http://host:port`",
    severity=Severity.OPTIONAL,
)
def proxies(environment: Environment) -> Iterator[Problem]:
    """`HTTPS_PROXY=proxy.example:8080` without `http://` is read differently by pip, uv, curl and git: some guess, some
    say `Invalid proxy URL`. Only the text of the variables is looked at.
    """
    for name, value in _given(environment):
        if not _is_address(value):
            yield Problem(f"{name} is {_without_password(value)!r}, not an address such as http://host:port")


@check(
    "RD952",
    Group.NETWORK,
    "proxy variables agree",
    remedy="set the small-letter names too, to the same values, and both http and https",
    severity=Severity.OPTIONAL,
)
def agreement(environment: Environment) -> Iterator[Problem]:
    """curl reads `http_proxy` in small letters only, other programs either spelling. A proxy for http alone leaves pip
    and uv, which use https, without one: downloads hang until they time out. Only the variables are looked at.
    """
    variables = environment.variables
    for name in (*_PROXIES, "no_proxy"):
        small, capital = variables.get(name), variables.get(name.upper())
        if small and capital and small != capital:
            yield Problem(f"{name} and {name.upper()} differ")
    names = {name.lower() for name, _ in _given(environment)}
    if "http_proxy" in names and not names & {"https_proxy", "all_proxy"}:
        yield Problem("there is a proxy for http and none for https")


@check(
    "RD953",
    Group.NETWORK,
    "certificate bundles that are named exist",
    remedy="point it at your company's bundle, or unset it",
    severity=Severity.OPTIONAL,
)
def certificates(environment: Environment) -> Iterator[Problem]:
    """Behind a proxy that opens TLS, programs need its certificate: `SSL_CERT_FILE` for uv, pip and Python,
    `REQUESTS_CA_BUNDLE` for requests. A variable that names an absent file makes every download fail with
    `CERTIFICATE_VERIFY_FAILED` or `could not find a suitable TLS CA certificate bundle`.
    """
    for name in _BUNDLES:
        value = environment.variables.get(name)
        if value and not Path(value).exists():
            yield Problem(f"{name} is {value}, which does not exist")


def _given(environment: Environment) -> list[tuple[str, str]]:
    names = [spelling for name in _PROXIES for spelling in (name, name.upper())]
    return [(name, environment.variables[name]) for name in names if environment.variables.get(name)]


def _is_address(value: str) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in _SCHEMES and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # brackets that do not close, a port that is no number
        return False


def _without_password(value: str) -> str:
    _, at, tail = value.rpartition("@")
    return f"...@{tail}" if at else value
