"""uv and the other commands, run in one environment of variables."""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.setup.progress import run

# What would send an installation elsewhere than to the environment named on the command line.
_MISLEADING = (
    "PYTHONPATH",
    "PYTHONHOME",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_USER",
    "PIP_REQUIRE_VIRTUALENV",
    "VIRTUAL_ENV",
)
_SYSTEM_CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")


@dataclass(frozen=True)
class Tools:
    """The pinned uv, where logs go, and the locks that every command inherits."""

    uv: Path
    logs: Path
    keep_open: tuple[int, ...]
    variables: Mapping[str, str]

    def run(
        self, command: Sequence[str | Path], label: str, expected: float, extra: Mapping[str, str] | None = None
    ) -> None:
        """Run one command with progress; its log is named after the label."""
        log = self.logs / f"{re.sub(r'[^a-z0-9.]+', '-', label.lower()).strip('-')}.log"
        run(command, label, expected, log, {**self.variables, **(extra or {})}, self.keep_open)

    def uv_pip(
        self,
        verb: str,
        python: Path,
        arguments: Sequence[str | Path],
        label: str,
        expected: float,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        """``uv pip VERB`` into the environment of ``python``."""
        self.run([self.uv, "pip", verb, "--python", python, *arguments], label, expected, extra)


def command_variables(prefixes: Sequence[Path], cc: str, cxx: str) -> dict[str, str]:
    """The user's variables, with the environments' programs first on PATH and uv and pip told to agree."""
    variables = {name: value for name, value in os.environ.items() if name not in _MISLEADING}
    folders = [*(str(prefix / "bin") for prefix in prefixes), os.environ.get("PATH", os.defpath)]
    variables["PATH"] = os.pathsep.join(folders)
    variables |= {"CC": cc, "CXX": cxx}
    # copy: an edit in one .venv must never reach uv's cache, and through it another checkout.
    variables |= {"UV_LINK_MODE": "copy", "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1"}
    variables |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    variables.setdefault("MAX_JOBS", str(parallel_compilers()))
    if any(Path(bundle).exists() for bundle in _SYSTEM_CERTIFICATES):
        variables.setdefault("UV_SYSTEM_CERTS", "1")
    _share_index(variables)
    return variables


def _share_index(variables: dict[str, str]) -> None:
    """A machine may have its mirror configured for one of uv and pip only: give it to the other too."""
    for_uv = variables.get("UV_DEFAULT_INDEX") or variables.get("UV_INDEX_URL")
    for_pip = variables.get("PIP_INDEX_URL") or _pip_setting("index-url")
    has_uv_file = any((base / "uv" / "uv.toml").exists() for base in (_config_home(), Path("/etc")))
    if for_pip and not for_uv and not has_uv_file:
        variables["UV_DEFAULT_INDEX"] = for_pip
    if for_uv and not for_pip:
        variables["PIP_INDEX_URL"] = for_uv


def _pip_setting(name: str) -> str | None:
    named = os.environ.get("PIP_CONFIG_FILE")
    files = [Path("/etc/pip.conf"), Path.home() / ".pip" / "pip.conf", _config_home() / "pip" / "pip.conf"]
    parser = configparser.RawConfigParser()
    parser.read([*files, *([Path(named)] if named else [])])
    return parser.get("global", name, fallback=None)


def _config_home() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")


def parallel_compilers(gib: int = 2) -> int:
    """One compiler per core, but ``gib`` GiB of memory for each."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(len(os.sched_getaffinity(0)), memory // (gib << 30)))
