"""Where weights are looked for. Standard library only."""

from __future__ import annotations

import os
from pathlib import Path

from racdino.weights.catalogue import CATALOGUE, Entry, shown_hash

ENVIRONMENT_VARIABLE = "RACDINO_WEIGHTS"


class WeightsNotFoundError(FileNotFoundError):
    """A weight file is missing; of a published one the message names the hash and the command that fetches it."""


def user_folder() -> Path:
    """The folder that ``racdino weights fetch`` fills: ``$RACDINO_WEIGHTS`` if set, else ``~/.cache/dinov2``."""
    chosen = os.environ.get(ENVIRONMENT_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "dinov2"


def search_folders() -> list[Path]:
    """In this order: ``pretrain``, ``weight`` (in the working directory), ``$RACDINO_WEIGHTS``, ``~/.cache/dinov2``."""
    folders = [Path("pretrain"), Path("weight"), user_folder(), Path.home() / ".cache" / "dinov2"]
    return list(dict.fromkeys(folders))


def find(entry: Entry) -> Path:
    """The first file of `search_folders` that has the name of ``entry``'s.

    Raises:
        WeightsNotFoundError: there is none. Nothing is ever downloaded here.
    """
    folders = search_folders()
    for folder in folders:
        if (folder / entry.file).is_file():
            return folder / entry.file
    unset = "" if os.environ.get(ENVIRONMENT_VARIABLE) else f" (${ENVIRONMENT_VARIABLE} is not set)"
    raise WeightsNotFoundError(
        f"{entry.file} (sha256 {shown_hash(entry)}) is in none of {', '.join(map(str, folders))}{unset}: "
        f"fetch it with `racdino weights fetch {entry.name}`"
    )


def find_or_none(entry: Entry) -> Path | None:
    """Like `find`, for listings: None where the file is missing."""
    try:
        return find(entry)
    except WeightsNotFoundError:
        return None


def existing_file(path: str | os.PathLike[str]) -> Path:
    """``path`` as the user gave it, any file name; WeightsNotFoundError when it is no file."""
    path = Path(path).expanduser()
    if path.is_file():
        return path
    for entry in CATALOGUE.values():
        if entry.file == path.name:
            raise WeightsNotFoundError(
                f"{path} (sha256 {shown_hash(entry)}) is missing: "
                f"fetch it with `racdino weights fetch {entry.name} --to {path.parent}`"
            )
    raise WeightsNotFoundError(f"the weights {path} are missing; `racdino weights list` names the published ones")
