"""What a check proposes to do about its finding: data only, so that checks need no editor. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union


@dataclass(frozen=True)
class ReplaceStatement:
    """Put ``code`` in place of the statement that begins on ``line`` (from 1) of ``file`` (relative to the checkout).

    Comments and formatting around it stay. ``code`` is one or more simple statements, without indentation.
    """

    file: str
    line: int
    code: str


@dataclass(frozen=True)
class RemoveStatement:
    """Delete the statement that begins on ``line`` of ``file``."""

    file: str
    line: int


@dataclass(frozen=True)
class CreateFile:
    """Write a new file; it is an error where one exists already."""

    file: str
    text: str


@dataclass(frozen=True)
class Run:
    """Change the environment by a command; ``undo`` takes it back, empty where nothing can (a compiled file stays).

    ``cwd`` is absolute, or empty for the working directory.
    """

    command: tuple[str, ...]
    undo: tuple[str, ...] = ()
    cwd: str = ""


Mend = Union[ReplaceStatement, RemoveStatement, CreateFile, Run]  # noqa: UP007 - Python 3.8 has no |
