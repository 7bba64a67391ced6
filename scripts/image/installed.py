"""Read what is installed: Python distributions of an environment, and Debian packages from dpkg's own list."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from email.parser import Parser
from importlib.metadata import Distribution, distributions
from pathlib import Path

from racdino.environment.locks import normalised
from scripts.image.errors import ImageError


@dataclass(frozen=True)
class DebianPackage:
    """One installed package. depends: of each dependency the names that satisfy it. provides: names it answers to."""

    name: str
    version: str
    arch: str
    depends: tuple[tuple[str, ...], ...]
    provides: tuple[str, ...]


def python_distributions(prefix: Path) -> dict[str, Distribution]:
    """The distributions of the environment ``prefix`` by canonical name.

    Raises:
        ImageError: there is no environment.
    """
    folders = [str(folder) for folder in sorted(prefix.glob("lib/python3.*/site-packages"))]
    if not folders:
        raise ImageError(f"{prefix} is no Python environment: it has no lib/python3.*/site-packages.")
    return {normalised(found.metadata["Name"]): found for found in distributions(path=folders)}


def python_version(prefix: Path) -> str:
    """The version of the environment's Python, from its pyvenv.cfg."""
    path = prefix / "pyvenv.cfg"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    found = re.search(r"^version(?:_info)?\s*=\s*(\d+\.\d+\.\d+)", text, re.MULTILINE)
    if not found:
        raise ImageError(f"{path} does not say which Python it is: make the environment again.")
    return found[1]


def debian_packages(status: Path) -> dict[str, DebianPackage]:
    """The packages that dpkg's list ``status`` names as installed, by name.

    Raises:
        ImageError: there is no such list.
    """
    if not status.is_file():
        raise ImageError(f"{status} does not exist: give dpkg's list, /var/lib/dpkg/status in the image.")
    packages = {}
    for stanza in status.read_text(encoding="utf-8").strip().split("\n\n"):
        fields = Parser().parsestr(stanza)
        if fields.get("Status", "").split()[-1:] == ["installed"]:
            needs = [*_relations(fields.get("Pre-Depends")), *_relations(fields.get("Depends"))]
            provides = [name for names in _relations(fields.get("Provides")) for name in names]
            packages[fields["Package"]] = DebianPackage(
                fields["Package"], fields["Version"], fields["Architecture"], tuple(needs), tuple(provides)
            )
    return packages


def debian_edges(packages: dict[str, DebianPackage]) -> dict[str, set[str]]:
    """For each package the installed ones that it depends on, by name or by what they provide."""
    answering: dict[str, set[str]] = {name: {name} for name in packages}
    for package in packages.values():
        for name in package.provides:
            answering.setdefault(name, set()).add(package.name)
    return {
        package.name: {one for names in package.depends for name in names for one in answering.get(name, ())}
        for package in packages.values()
    }


def python_edges(found: Iterable[Distribution]) -> dict[str, set[str]]:
    """For each distribution the canonical names that it requires here, without extras."""
    from packaging.requirements import Requirement

    edges: dict[str, set[str]] = {}
    for one in found:
        requirements = [Requirement(line) for line in one.requires or ()]
        needed = {normalised(r.name) for r in requirements if not r.marker or r.marker.evaluate({"extra": ""})}
        edges[normalised(one.metadata["Name"])] = needed
    return edges


def _relations(field: str | None) -> list[tuple[str, ...]]:
    """Names of a dependency field: one tuple for each comma, its alternatives in it."""
    if not field:
        return []
    return [
        tuple(re.split(r"[\s(:\[]", choice.strip(), maxsplit=1)[0] for choice in one.split("|"))
        for one in field.split(",")
    ]
