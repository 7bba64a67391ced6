"""What ``--fix`` would do about findings: the new texts of files, as a diff, and the commands."""

from __future__ import annotations

import difflib
import importlib
import io
import os
import shlex
import sys
import tokenize
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from racdino.doctor.finding import Finding
from racdino.doctor.mend import files
from racdino.doctor.mend.files import RefusedError
from racdino.doctor.mend.plan import CreateFile, Mend, RemoveStatement, Run
from racdino.doctor.report import printable

LIBCST = "libcst==1.4.0"


@dataclass(frozen=True)
class FileChange:
    """A file's content; ``before`` is None for a new one. ``name`` is relative to the checkout, links followed."""

    name: str
    before: bytes | None
    after: bytes


@dataclass
class Proposal:
    """Everything for one round.

    Attributes:
        mends: those that the changes and commands carry out.
        left: what a person must do, with the reason where a mend was refused.
    """

    changes: list[FileChange] = field(default_factory=list)
    commands: list[Run] = field(default_factory=list)
    mends: list[Mend] = field(default_factory=list)
    left: list[tuple[Finding, str]] = field(default_factory=list)

    def diff(self) -> str:
        """A unified diff of the files, then the commands as one would type them."""
        lines = [line for change in self.changes for line in _diff(change)]
        return "\n".join(lines + [f"$ {typed(command)}" for command in self.commands])


def typed(run: Run) -> str:
    """The command as a line for the shell."""
    line = " ".join(shlex.quote(word) for word in run.command)
    return printable(f"cd {shlex.quote(run.cwd)} && {line}" if run.cwd else line)


def propose(root: Path | None, prefix: Path, findings: Iterable[Finding], tried: Collection[Mend] = ()) -> Proposal:
    """Work out the mends of ``findings`` without changing anything.

    Args:
        root: the checkout, without symbolic links; None where only the environment is mended.
        prefix: the environment's folder.
        tried: mends that were applied already and did not help; they are not proposed again.
    """
    proposal = Proposal()
    edits: dict[Path, dict[Mend, list[Finding]]] = {}
    for finding in findings:
        mend = finding.mend
        try:
            if mend is None:
                proposal.left.append((finding, ""))
            elif mend in tried and not isinstance(mend, RemoveStatement):  # the next statement moved to its line
                raise RefusedError("its mend was applied and did not help")
            elif isinstance(mend, Run):
                _check_writable(prefix)
                _add(proposal, mend, None)
            elif isinstance(mend, CreateFile):
                _add(proposal, mend, _new_file(_checkout(root), mend))
            else:
                path = files.inside(_checkout(root), mend.file)
                edits.setdefault(path, {}).setdefault(mend, []).append(finding)
        except RefusedError as refused:
            proposal.left.append((finding, str(refused)))
    for path, by_mend in edits.items():
        _edit(proposal, _checkout(root), path, by_mend)
    return proposal


def _checkout(root: Path | None) -> Path:
    if root is None:
        raise RefusedError("no checkout was named")
    return root


def _check_writable(prefix: Path) -> None:
    """Commands change the environment and leave their backup there; an image's belongs to root."""
    if not os.access(str(prefix), os.W_OK):
        raise RefusedError(f"{prefix} cannot be written by this user")


def _add(proposal: Proposal, mend: Mend, change: FileChange | None) -> None:
    """Several findings may want the same thing done."""
    if mend in proposal.mends:
        return
    if change is not None and any(other.name == change.name for other in proposal.changes):
        raise RefusedError(f"another mend makes {change.name}")
    proposal.mends.append(mend)
    if change is not None:
        proposal.changes.append(change)
    elif isinstance(mend, Run):
        proposal.commands.append(mend)


def _new_file(root: Path, mend: CreateFile) -> FileChange:
    path = files.inside(root, mend.file)
    if os.path.lexists(str(root / mend.file)) or not path.parent.is_dir():
        raise RefusedError(f"{mend.file} exists already, or its folder does not")
    return FileChange(_name(root, path), None, mend.text.encode())


def _edit(proposal: Proposal, root: Path, path: Path, by_mend: dict[Mend, list[Finding]]) -> None:
    """One change with all edits of a file; an edit that is refused does not keep the others back."""
    accepted: list[Mend] = []
    name = _name(root, path)
    try:
        before = files.read(path)
        source = _statements().Source(before)
        for mend, findings in by_mend.items():
            try:
                source.add(mend)
                accepted.append(mend)
            except RefusedError as refused:
                proposal.left += [(finding, f"{name}: {refused}") for finding in findings]
        after = source.edited()
        if accepted and after == before:
            raise RefusedError("the edit changes nothing")
    except RefusedError as refused:
        waiting = [finding for mend, found in by_mend.items() if mend in accepted or not accepted for finding in found]
        proposal.left += [(finding, f"{name}: {refused}") for finding in waiting]
        return
    if accepted:
        proposal.changes.append(FileChange(name, before, after))
        proposal.mends += accepted


def _statements() -> Any:
    """The module that needs libcst; a command of the round before may have installed it."""
    importlib.invalidate_caches()
    try:
        return importlib.import_module("racdino.doctor.mend.statements")
    except ModuleNotFoundError as error:
        if error.name != "libcst":
            raise
        command = f"{shlex.quote(sys.executable)} -m pip install {LIBCST}"
        raise RefusedError(f"editing Python files needs libcst; run `make setup`, or `{command}`") from error


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _diff(change: FileChange) -> Iterator[str]:
    before = [] if change.before is None else _lines(change.before)
    old = "/dev/null" if change.before is None else f"a/{change.name}"
    for line in difflib.unified_diff(before, _lines(change.after), old, f"b/{change.name}", lineterm=""):
        yield "\t".join(printable(part) for part in line.split("\t"))


def _lines(content: bytes) -> list[str]:
    encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    text = content.decode(encoding, "replace")
    return [line.rstrip("\r") for line in text.split("\n")][: -1 if text.endswith("\n") else None]
