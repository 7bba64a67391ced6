"""Read the locks in environment/: requirement files in which every line is pinned and hashed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from racdino.environment.hashing import sha256

LOCKS = Path(__file__).resolve().parents[2] / "environment"

_NAME = r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)"
_PINNED = re.compile(rf"{_NAME}==(?P<version>[^\s;@]+)$")
_BY_URL = re.compile(rf"{_NAME} @ (?P<url>https://\S+)$")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})$")
_WHEEL_VERSION = re.compile(r"/[^/]+?-(?P<version>[^-/]+)-[^-/]+-[^-/]+-[^-/]+\.whl$")


class LockError(ValueError):
    """A lock that cannot be read; the message names the file and the line."""


class Pin(NamedTuple):
    """One locked package. ``url`` is set where the file does not come from the registry."""

    name: str
    version: str
    url: str | None
    hashes: tuple[str, ...]


def normalised(name: str) -> str:
    """The registry's canonical spelling of a package name (PEP 503): ``Mmcv_Full`` is ``mmcv-full``."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parse_lock(path: str | Path) -> dict[str, Pin]:
    """The pins of one lock by canonical package name.

    Raises:
        LockError: the file is missing, a line is not ``name==version`` or ``name @ https://...whl``, has no sha256,
            or a package stands twice.
    """
    path = Path(path)
    if not path.is_file():
        raise LockError(f"{path} does not exist; `invoke lock` generates it from environment/pins.toml.")
    pins: dict[str, Pin] = {}
    for number, line in _logical_lines(path.read_text(encoding="utf-8")):
        pin = _parse_line(line, f"{path}:{number}")
        if pin.name in pins:
            raise LockError(f"{path}:{number}: {pin.name} is locked twice; run `invoke lock`.")
        pins[pin.name] = pin
    return pins


def read_header(path: str | Path) -> dict[str, str]:
    """The ``# key: value`` lines at the head of a lock: digests, and in build.lock the versions of Python and nvcc."""
    header = {}
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        key, colon, value = line[len("# ") :].partition(": ")
        if colon:
            header[key] = value
    return header


def digest(path: str | Path) -> str:
    """sha256 of a lock's bytes, in hexadecimal."""
    return sha256(Path(path))


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """(number of its first line, text) of each requirement: continuation lines joined, comments and blanks gone."""
    lines: list[tuple[int, str]] = []
    pending: list[str] = []
    start = 0
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if line.startswith("#") or (not line and not pending):
            continue
        if not pending:
            start = number
        pending.append(line.rstrip("\\").strip())
        if not line.endswith("\\"):
            lines.append((start, " ".join(pending)))
            pending = []
    if pending:
        lines.append((start, " ".join(pending)))
    return lines


def _parse_line(line: str, where: str) -> Pin:
    requirement, *options = re.split(r"\s+(?=--)", line)
    pinned, by_url = _PINNED.match(requirement), _BY_URL.match(requirement)
    if pinned:
        name, version, url = pinned["name"], pinned["version"], None
    elif by_url and (wheel := _WHEEL_VERSION.search(by_url["url"])):
        name, version, url = by_url["name"], wheel["version"].replace("%2B", "+"), by_url["url"]
    else:
        raise LockError(f"{where}: `{requirement}` is neither `name==version` nor `name @ https://...whl`.")
    hashes = []
    for option in options:
        match = _HASH.match(option)
        if not match:
            raise LockError(f"{where}: `{option}` is not a sha256 hash, the only option a lock may have.")
        hashes.append(match[1])
    if not hashes:
        raise LockError(f"{where}: {name} has no hash; run `invoke lock`.")
    return Pin(normalised(name), version, url, tuple(hashes))
