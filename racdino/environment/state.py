"""What setup left in an environment: ``<prefix>/racdino/state.json``, written last and whole, or not at all."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from racdino.environment.manifest import NOTES


@dataclass(frozen=True)
class State:
    """A finished environment.

    variant: ``cpu`` or ``cu118``. locks: sha256 by lock. packages: version by package. wheels: sha256 of the wheels
    that were built here. project and extension: digests of what the checkout's own part was made from.
    """

    variant: str
    flash_attn: bool
    python: str
    locks: dict[str, str]
    packages: dict[str, str]
    wheels: dict[str, str]
    project: str
    extension: str


def state_path(prefix: str | Path) -> Path:
    """Where the state of an environment lies."""
    return Path(prefix) / NOTES / "state.json"


def read_state(prefix: str | Path) -> State | None:
    """The state of a finished environment; None where there is none, or one that another version of setup wrote."""
    try:
        values = json.loads(state_path(prefix).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    if not isinstance(values, dict) or values.keys() != {field.name for field in fields(State)}:
        return None
    return State(**values)


def write_state(prefix: str | Path, state: State) -> None:
    """Replace the state in one step."""
    path = state_path(prefix)
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(asdict(state), indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
