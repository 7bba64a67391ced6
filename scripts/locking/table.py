"""environment/pins.toml as typed rows."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # in dev.lock: Python 3.10 has no TOML reader of its own

SETS = ("build", "native", "flash-attn", "dev", "bootstrap")
_TOOLS = "tools"  # names rows of the others
_REASONS = ("why", "source", "relaxed")
# The sets of Debian packages, and what each is installed on top of. dev stands beside nvcc: the CPU variant's dev image
# has no toolkit.
BELOW: dict[str, tuple[str, ...]] = {
    "base": (),
    "runtime": ("base",),
    "gcc": ("base", "runtime"),
    "nvcc": ("base", "runtime", "gcc"),
    "dev": ("base", "runtime", "gcc"),
}


class TableError(ValueError):
    """A row of pins.toml that cannot be used; the message names it."""


@dataclass(frozen=True)
class ResolvedSet:
    """One resolution: what is asked for, and the sets whose choices it must follow."""

    name: str
    pins: dict[str, str]
    exclude_newer: str
    above: tuple[str, ...]
    sdists: tuple[str, ...]


@dataclass(frozen=True)
class Variant:
    """What a variant has instead of the registry's files: ``{name: (url, sha256)}``, and the patterns it drops."""

    name: str
    replace: dict[str, tuple[str, str]] = field(default_factory=dict)
    drop: tuple[str, ...] = ()


@dataclass(frozen=True)
class AptTable:
    """The Debian packages that the image asks for by name, by the set that needs them, each with its reason."""

    release: str
    components: tuple[str, ...]
    sets: dict[str, dict[str, str]]


@dataclass(frozen=True)
class Table:
    """The whole of pins.toml that shapes a lock."""

    python: str
    cuda: dict[str, str]
    uv: dict[str, str]
    sets: dict[str, ResolvedSet]
    variants: dict[str, Variant]
    overrides: dict[str, str]
    excludes: tuple[str, ...]
    metadata: dict[str, tuple[str, ...]]
    apt: AptTable
    image: dict[str, str]

    def settings(self, set_name: str) -> dict[str, str]:
        """What setup must know besides the pins, and reads from the header of this set's lock."""
        return {"build": {"python": self.python, **self.cuda}, "bootstrap": self.uv}.get(set_name, {})

    def digest(self, set_name: str, variant: str | None = None) -> str:
        """sha256 over everything in the table that shapes one lock; reasons are free to change."""
        chosen = self.sets[set_name]
        shape: dict[str, Any] = {
            "python": self.python,
            "cuda": self.cuda,
            "pins": chosen.pins,
            "exclude-newer": chosen.exclude_newer,
            "sdists": chosen.sdists,
            "above": {name: self.digest(name) for name in chosen.above},
        }
        if set_name != "bootstrap":
            shape |= {"override": self.overrides, "exclude": self.excludes, "metadata": self.metadata}
        if variant:
            shape["variant"] = [self.variants[variant].replace, self.variants[variant].drop]
        return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()


def read_table(path: Path) -> Table:
    """Read and check pins.toml.

    Raises:
        TableError: the file is not TOML, or a row lacks its version or its reasons.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise TableError(f"{path} is not valid TOML: {error}.") from error
    try:
        return Table(
            python=raw["python"]["version"],
            cuda={key: raw["cuda"][key] for key in ("nvcc", "arch-list", "gcc-max")},
            uv={key: raw["bootstrap"]["uv"][key] for key in ("release", "program-sha256")},
            sets={**{name: _read_set(path, raw, name) for name in SETS}, _TOOLS: _read_tools(raw)},
            variants={name: _read_variant(name, row) for name, row in raw["variant"].items()},
            overrides=_versions(path, "override", raw["override"]),
            excludes=tuple(sorted(raw["exclude"])),
            metadata={name: tuple(row["requires"]) for name, row in raw["metadata"].items()},
            apt=_read_apt(path, raw["apt"]),
            image={"base": raw["image"]["base"]["name"], "image-python": raw["image"]["python"]["version"]},
        )
    except KeyError as error:
        raise TableError(f"{path} lacks the key {error}; environment/README.md describes the table.") from error


def _read_set(path: Path, raw: dict[str, Any], name: str) -> ResolvedSet:
    settings = raw["set"][name]
    return ResolvedSet(
        name=name,
        pins=_versions(path, name, raw[name]),
        exclude_newer=settings["exclude-newer"],
        above=tuple(settings["above"]),
        sdists=tuple(settings.get("sdists", ())),
    )


def _read_tools(raw: dict[str, Any]) -> ResolvedSet:
    versions = {name: row["version"] for part in SETS for name, row in raw[part].items()}
    pins = {name: versions[name] for name in raw[_TOOLS]["packages"]}
    return ResolvedSet(_TOOLS, pins, raw["set"][_TOOLS]["exclude-newer"], (), ())


def _read_apt(path: Path, row: dict[str, Any]) -> AptTable:
    rest = dict(row)
    release, components = rest.pop("release"), tuple(rest.pop("components"))
    for name, packages in rest.items():
        if name not in BELOW or not isinstance(packages, dict):
            raise TableError(f"{path}: [apt] has {name}, which is no set of the image ({', '.join(BELOW)}).")
        for package, reason in packages.items():
            if not isinstance(reason, str) or not reason.strip():
                raise TableError(f"{path}: [apt.{name}] does not say why {package} is there.")
    return AptTable(release, components, {name: rest[name] for name in BELOW})


def _read_variant(name: str, row: dict[str, Any]) -> Variant:
    replace = {key: (value["url"], value["sha256"]) for key, value in row.items() if isinstance(value, dict)}
    return Variant(name, replace, tuple(row.get("drop", ())))


def _versions(path: Path, table: str, rows: dict[str, Any]) -> dict[str, str]:
    for name, row in rows.items():
        missing = [key for key in ("version", *_REASONS) if not row.get(key)]
        if missing:
            raise TableError(f"{path}: [{table}.{name}] lacks {', '.join(missing)}.")
    return {name: row["version"] for name, row in rows.items()}
