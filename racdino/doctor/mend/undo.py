"""Taking a run of ``--fix`` back: its commands in reverse, then its files; all files are checked before anything."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from racdino.doctor.errors import DoctorError
from racdino.doctor.mend import files
from racdino.doctor.mend.backup import IN_CHECKOUT, IN_ENVIRONMENT, Part, SavedFile, newest
from racdino.doctor.mend.plan import Run
from racdino.doctor.mend.proposal import typed

if TYPE_CHECKING:  # Python 3.8 cannot subscript these
    Contents = dict[str, tuple[Path, bytes | None]]


@dataclass
class Undone:
    """What was taken back: ``restored`` and ``deleted`` files, and ``kept``: commands that nothing takes back."""

    restored: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    commands: list[Run] = field(default_factory=list)
    kept: list[Run] = field(default_factory=list)


def undo_newest(root: Path | None, prefix: Path) -> Undone:
    """Take back the latest run in a checkout; without one, the latest run's commands in the environment.

    Raises:
        DoctorError: there is none, or it cannot be taken back now; nothing was changed then.
    """
    in_environment = newest(prefix / IN_ENVIRONMENT, str(root) if root else None)
    in_checkout = newest(root / IN_CHECKOUT) if root else None
    if in_checkout and in_environment and in_checkout.manifest.run != in_environment.manifest.run:
        if in_checkout.manifest.time > in_environment.manifest.time:
            in_environment = None
        else:
            in_checkout = None
    if in_environment is None and in_checkout is None:
        raise DoctorError(f"There is nothing to undo in {root or prefix}.")
    if in_checkout and not in_environment:
        _refuse_half(in_checkout, prefix)
    if in_environment:
        _refuse_later(in_environment, prefix)
    return restore(root, in_checkout, in_environment)


def _refuse_half(in_checkout: Part, prefix: Path) -> None:
    """A run of another environment changed that one too."""
    other = in_checkout.manifest.environment
    if not other or other == str(prefix):
        return
    part = newest(Path(other) / IN_ENVIRONMENT, in_checkout.manifest.checkout)
    if part and part.manifest.run == in_checkout.manifest.run:
        command = f"{other}/bin/python -m racdino.doctor --undo {part.manifest.checkout}"
        raise DoctorError(f"That run changed the environment {other} too; undo it with `{command}`.")


def _refuse_later(in_environment: Part, prefix: Path) -> None:
    """Commands are taken back in reverse, over all checkouts."""
    last = newest(prefix / IN_ENVIRONMENT)
    if last and last.manifest.run != in_environment.manifest.run:
        where = last.manifest.checkout
        raise DoctorError(f"A later run changed {prefix}; first take that back: `racdino doctor --undo {where}`.")


def restore(root: Path | None, in_checkout: Part | None, in_environment: Part | None) -> Undone:
    """Take one run back and delete its backup.

    Raises:
        DoctorError: a file was edited since (nothing was changed then), or an undo command failed: what remains to
            be taken back stays in the backup.
    """
    contents = _contents(root, in_checkout) if root and in_checkout else {}
    try:
        return _restore(contents, in_checkout, in_environment)
    except OSError as error:
        raise DoctorError(
            f"{error.filename}: {error.strerror}; what was not taken back stays in the backup."
        ) from error


def _restore(contents: Contents, in_checkout: Part | None, in_environment: Part | None) -> Undone:
    undone = Undone()
    if in_environment:
        _undo_commands(in_environment, undone)
        in_environment.remove()
    for name, (path, content) in contents.items():
        if content is not None:
            files.write(path, content)
            undone.restored.append(name)
        elif path.exists():
            path.unlink()
            undone.deleted.append(name)
    if in_checkout:
        in_checkout.remove()
    return undone


def _contents(root: Path, part: Part) -> Contents:
    """What to restore for each file, after a look at all of them."""
    try:
        paths = {name: files.inside(root, name) for name in part.manifest.files}
        edited = [name for name, saved in part.manifest.files.items() if not _is_ours(paths[name], saved)]
    except (files.RefusedError, OSError) as error:
        raise DoctorError(f"Nothing was undone: {error}.") from error
    if edited:
        raise DoctorError(f"Nothing was undone: {', '.join(edited)} changed since; the backup is {part.folder}.")
    return {name: (paths[name], part.original(saved)) for name, saved in part.manifest.files.items()}


def _is_ours(path: Path, saved: SavedFile) -> bool:
    """Whether the file is as the doctor left it, or, where a run was cut off, as it was before."""
    now = files.digest(files.read(path)) if path.exists() else None
    return now == saved.before or now in saved.written


def _undo_commands(part: Part, undone: Undone) -> None:
    commands = part.manifest.commands
    while commands:
        run = commands[-1]
        if run.undo:
            back = Run(run.undo, cwd=run.cwd)
            print(f"running {typed(back)}", flush=True)
            try:
                execute(back.command, back.cwd)
            except (OSError, subprocess.CalledProcessError) as error:
                raise DoctorError(f"`{typed(back)}` failed ({error}); the backup is {part.folder}.") from error
            undone.commands.append(back)
        else:
            undone.kept.append(run)
        commands.pop()
        part.save()


def execute(command: tuple[str, ...], cwd: str) -> None:
    """Run a command that asks nothing; its output goes where ours goes. Raises OSError or CalledProcessError."""
    sys.stdout.flush()
    subprocess.run(command, cwd=cwd or None, stdin=subprocess.DEVNULL, check=True)
