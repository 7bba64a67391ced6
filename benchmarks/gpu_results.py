"""The one file of raw GPU results: what ran where, and the rows of each measurement; runs add to it piece by piece."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]

# What makes two rows of a measurement the same one.
KEYS = {
    "msda": ("case", "spread", "dtype", "what"),
    "backbone": ("part", "images", "peer", "what"),
    "training": ("samples", "structure"),
    "profile": ("images", "what"),
}
PEERS = ("timm", "transformers", "deformops")
_DIGITS = 6


def machine() -> dict[str, Any]:
    """The card, and the versions that a figure depends on."""
    return {"card": torch.cuda.get_device_name(), "torch": torch.__version__, "cuda": torch.version.cuda}


def collect(path: Path | None, measurement: str, rows: Iterable[Row]) -> None:
    """Take the rows as they are measured, each into the file, if there is one: a run that is stopped leaves those."""
    for row in rows:
        if path is not None:
            add(path, measurement, [row])


def add(path: Path, measurement: str, rows: list[Row]) -> None:
    """Write ``rows`` into the file, in place of those of the same case that an earlier run left there.

    Raises:
        SystemExit: as `of_this_machine`; nothing is written.
    """
    here, kept = machine(), of_this_machine(path)
    known = {_key(measurement, row): row for row in kept.get(measurement, [])}
    known.update({_key(measurement, row): _rounded(row) for row in rows})
    results = {**here, "peers": {**kept.get("peers", {}), **_versions()}}
    results |= {name: kept[name] for name in KEYS if name in kept}
    _write(path, {**results, measurement: list(known.values())})


def of_this_machine(path: Path) -> dict[str, Any]:
    """What the file holds; nothing where there is no file.

    Raises:
        SystemExit: it holds results of another card, torch or CUDA.
    """
    here = machine()
    kept = read(path) if path.exists() else {}
    there = {name: kept.get(name, value) for name, value in here.items()}
    if there != here:
        raise SystemExit(f"{path} holds results of {_words(there)}; this is {_words(here)}: name another file.")
    return kept


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _key(measurement: str, row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEYS[measurement])


def _words(there: dict[str, Any]) -> str:
    return f"{there['card']}, torch {there['torch']}, CUDA {there['cuda']}"


def _versions() -> dict[str, str]:
    found = {}
    for name in PEERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, (list, tuple)) else value


def _write(path: Path, results: dict[str, Any]) -> None:
    """One row a line, so that a difference between two runs can be read."""
    fields = []
    for name, value in results.items():
        text = json.dumps(value)
        if isinstance(value, list):
            text = "[\n" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in value) + "\n]"
        fields.append(f"{json.dumps(name)}: {text}")
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_name(f"{path.name}.new")
    whole.write_text("{\n" + ",\n".join(fields) + "\n}\n", encoding="utf-8")
    whole.replace(path)
