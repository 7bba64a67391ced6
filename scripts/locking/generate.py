"""Resolve every set and write the locks, all or none."""

from __future__ import annotations

from pathlib import Path

from racdino.environment.locks import Pin
from scripts.locking.render import LOCK_FILES, apply_variant, render
from scripts.locking.resolve import resolve
from scripts.locking.table import Table

# The lock that holds a set as it was resolved: what the next resolution prefers.
_PREVIOUS = {set_name: lock for lock, (set_name, variant) in LOCK_FILES.items() if variant in (None, "cpu")}


def generate(uv: Path, table: Table, folder: Path) -> dict[str, str]:
    """The text of every lock by file name. Nothing is written."""
    resolved: dict[str, dict[str, Pin]] = {}
    for name, chosen in table.sets.items():
        constraints = {pin.name: pin for below in chosen.above for pin in resolved[below].values()}
        pins = resolve(uv, table, chosen, constraints, folder / _PREVIOUS[name])
        if "native" in chosen.above:  # installed on top of a variant: only what that lacks
            pins = {key: pin for key, pin in pins.items() if key not in constraints}
        resolved[name] = pins
    texts = {}
    for lock, (name, variant) in LOCK_FILES.items():
        pins = apply_variant(resolved[name], table.variants[variant]) if variant else resolved[name]
        texts[lock] = render(table, lock, pins)
    return texts


def write(folder: Path, texts: dict[str, str]) -> list[str]:
    """Replace the locks that differ; returns their names."""
    changed = []
    for lock, text in texts.items():
        target = folder / lock
        if target.is_file() and target.read_text(encoding="utf-8") == text:
            continue
        temporary = target.with_suffix(".lock.new")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(target)
        changed.append(lock)
    return changed
