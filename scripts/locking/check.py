"""Do the locks still follow from the table? One sentence for each way in which one does not."""

from __future__ import annotations

from pathlib import Path

from racdino.environment.locks import LockError, Pin, normalised, parse_lock, read_header
from scripts.locking.render import LOCK_FILES, apply_variant, body_of, content_digest
from scripts.locking.table import Table

_MEND = "run `invoke lock`"


def drift(folder: Path, table: Table) -> list[str]:
    """What is wrong with the locks in ``folder``, without asking a registry; empty when nothing is."""
    pins: dict[str, dict[str, Pin]] = {}
    found: list[str] = []
    for lock in LOCK_FILES:
        try:
            pins[lock] = parse_lock(folder / lock)
        except LockError as error:
            found.append(str(error))
        else:
            found += _headers(folder / lock, table) + _rows(lock, pins[lock], table)
    if "cpu.lock" in pins and "cu118.lock" in pins:
        found += _variants(pins["cpu.lock"], pins["cu118.lock"], table)
    return found


def _headers(path: Path, table: Table) -> list[str]:
    header = read_header(path)
    found = []
    set_name, variant = LOCK_FILES[path.name]
    expected = {"table": table.digest(set_name, variant), **table.settings(set_name)}
    if {key: header.get(key) for key in expected} != expected:
        found.append(f"{path.name} was generated from another pins.toml; {_MEND}.")
    if header.get("content") != content_digest(body_of(path)):
        found.append(f"{path.name} was edited by hand; change pins.toml and {_MEND}.")
    return found


def _rows(lock: str, pins: dict[str, Pin], table: Table) -> list[str]:
    """Every row of the set is locked at its version, here or in a set below, and nothing excluded is."""
    set_name, _ = LOCK_FILES[lock]
    chosen = table.sets[set_name]
    found = []
    for name, version in chosen.pins.items():
        pin = pins.get(normalised(name))
        if pin is None:
            if "native" not in chosen.above:  # those list only what a variant lacks
                found.append(f"{lock} lacks {name}, which pins.toml sets to {version}; {_MEND}.")
        elif not pin.url and pin.version != version:
            found.append(f"{lock} has {name} {pin.version}, pins.toml says {version}; {_MEND}.")
    found += [f"{lock} has {name}, which pins.toml excludes; {_MEND}." for name in table.excludes if name in pins]
    return found


def _variants(cpu: dict[str, Pin], cu118: dict[str, Pin], table: Table) -> list[str]:
    """cu118 is cpu with the accelerator packages exchanged, and nothing else."""
    expected = apply_variant(cpu, table.variants["cu118"])
    found = []
    for name in sorted(expected.keys() | cu118.keys()):
        ours, theirs = expected.get(name), cu118.get(name)
        if _content(ours) != _content(theirs):
            found.append(
                f"cu118.lock and cpu.lock differ in {name}, which is no accelerator package "
                f"({_shown(theirs)} and {_shown(ours)}); {_MEND}."
                if name not in table.variants["cu118"].replace
                else f"cu118.lock does not take {name} from the file in pins.toml; {_MEND}."
            )
    return found


def _content(pin: Pin | None) -> tuple[object, ...] | None:
    if pin is None:
        return None
    return (pin.url, pin.hashes) if pin.url else (pin.version, tuple(sorted(pin.hashes)))


def _shown(pin: Pin | None) -> str:
    return pin.version if pin else "absent"
