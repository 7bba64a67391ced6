"""The checkpoints of a run: written whole, found again newest first, damaged ones named and passed over.

A checkpoint is a ``torch.save`` file of dicts, lists, tuples, numbers, strings and tensors only, so that
`racdino.weights.checkpoint` reads it without executing anything; each record carries its checksum. ``epoch_3.pth`` is
the state after three epochs, ``epoch_3_iter_57.pth`` the one 57 iterations into the fourth, ``latest.pth`` a link to
the newest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from racdino.training.files import PARTIAL, sync_folder, write_whole
from racdino.weights.checkpoint import CheckpointError, read_checkpoint

LATEST = "latest.pth"
_NAME = re.compile(r"epoch_(\d+)(?:_iter_(\d+))?\.pth")


class Position(NamedTuple):
    """How far a run is: whole epochs, and iterations of the next one."""

    epoch: int
    iteration: int

    @property
    def file_name(self) -> str:
        return f"epoch_{self.epoch}_iter_{self.iteration}.pth" if self.iteration else f"epoch_{self.epoch}.pth"


class CheckpointStore:
    """The checkpoints in one folder.

    Args:
        folder: exists.
        keep: newest files to keep of each kind, whole epochs and positions inside one; 0 or less keeps all.
    """

    def __init__(self, folder: Path, keep: int = 0) -> None:
        self.folder = folder
        self.keep = keep

    def positions(self) -> list[Position]:
        """What is there, by file name, oldest first."""
        matches = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(Position(int(match[1]), int(match[2] or 0)) for match in matches if match)

    def path(self, position: Position) -> Path:
        """Where the checkpoint of ``position`` is or would be."""
        return self.folder / position.file_name

    def save(self, position: Position, content: Mapping[str, Any]) -> Path:
        """Write a checkpoint, point ``latest.pth`` to it, then remove those that are too many.

        Raises:
            OSError: it cannot be written; what was there before still is, and nothing else.
        """
        path = self.path(position)
        write_checkpoint(path, content)
        link = self.folder / (LATEST + PARTIAL)
        link.unlink(missing_ok=True)
        link.symlink_to(path.name)
        link.replace(self.folder / LATEST)
        self._prune(position)
        sync_folder(self.folder)
        return path

    def _prune(self, just_saved: Position) -> None:
        if self.keep <= 0:
            return
        for inside in (True, False):
            same_kind = [at for at in self.positions() if bool(at.iteration) == inside and at <= just_saved]
            for position in same_kind[: -self.keep]:
                self.path(position).unlink()

    def newest(self) -> Iterator[tuple[Path, dict[str, Any] | CheckpointError]]:
        """Each file with its content, newest first; with the reason where it is damaged."""
        for position in reversed(self.positions()):
            path = self.path(position)
            try:
                yield path, read_checkpoint(path)
            except CheckpointError as error:
                yield path, error

    def remove_partial(self) -> None:
        """Remove what a killed process left half-written."""
        for path in self.folder.glob(f"*.pth{PARTIAL}"):
            path.unlink()


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` (see `plain`) to ``path``, whole or not at all; OSError where that is impossible."""

    def write(file: Any) -> None:
        try:
            torch.save(plain(content), file)
        except RuntimeError as error:  # torch's writer wraps a full disk
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise

    write_whole(path, write)


def plain(value: Any) -> Any:
    """``value`` in dicts, lists, tuples, numbers, strings and CPU tensors, the types that the safe reader knows.

    Raises:
        TypeError: it holds something else; the message names the type.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        own = value.untyped_storage().nbytes() == value.nelement() * value.element_size()
        return value if own else value.clone()  # a view would write the whole storage
    if isinstance(value, Mapping):
        return {key if type(key) is int else str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(plain, value)) if type(value) in (list, tuple) else tuple(map(plain, value))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, (str, Path)):
        return str(value)
    raise TypeError(f"a checkpoint cannot hold {type(value).__name__}")
