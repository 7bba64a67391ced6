"""Carrying proposals out: the backup first, then the files, then the commands; all of a run or nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

from racdino.doctor.errors import DoctorError
from racdino.doctor.mend import files
from racdino.doctor.mend.backup import IN_CHECKOUT, IN_ENVIRONMENT, Manifest, Part
from racdino.doctor.mend.plan import Mend, Run
from racdino.doctor.mend.proposal import FileChange, Proposal, typed
from racdino.doctor.mend.undo import execute, restore


class Mending:
    """One run of ``--fix``: its rounds share a backup, so that one ``--undo`` takes all of them back."""

    def __init__(self, root: Path | None, prefix: Path) -> None:
        self.root, self.prefix = root, prefix
        self.done: list[Mend] = []
        self._identity = Manifest(checkout=str(root or ""))
        self._in_checkout: Part | None = None
        self._in_environment: Part | None = None

    def apply(self, proposal: Proposal) -> None:
        """Carry a round out.

        Raises:
            DoctorError: it did not succeed; it and the rounds before were taken back, or the message says what not.
        """
        try:
            self._open(proposal)
            for change in proposal.changes:
                self._write(change)
            for command in proposal.commands:
                self._execute(command)
        except (DoctorError, files.RefusedError, OSError, subprocess.CalledProcessError) as error:
            raise DoctorError(f"{_sentence(error)} {self._take_back()}") from error
        except BaseException:
            self._take_back()
            raise
        self.done += proposal.mends

    def _open(self, proposal: Proposal) -> None:
        environment = str(self.prefix) if proposal.commands or self._in_environment else ""
        if proposal.changes and self.root and self._in_checkout is None:
            self._in_checkout = Part.create(self.root / IN_CHECKOUT, self._manifest())
        if self._in_checkout and environment:
            self._in_checkout.manifest.environment = environment
            self._in_checkout.save()
        if proposal.commands and self._in_environment is None:
            self._in_environment = Part.create(self.prefix / IN_ENVIRONMENT, self._manifest())

    def _manifest(self) -> Manifest:
        return Manifest(self._identity.run, self._identity.time, self._identity.checkout)

    def _write(self, change: FileChange) -> None:
        assert self.root is not None, "only a checkout has files to mend"
        assert self._in_checkout is not None, "_open made it"
        path = files.inside(self.root, change.name)
        if (files.read(path) if path.exists() else None) != change.before:
            raise files.RefusedError(f"{change.name} was edited in the meantime")
        self._in_checkout.remember(change.name, change.before, change.after)
        files.write(path, change.after)

    def _execute(self, run: Run) -> None:
        assert self._in_environment is not None, "_open made it"
        commands = self._in_environment.manifest.commands
        commands.append(run)
        self._in_environment.save()
        print(f"running {typed(run)}", flush=True)
        try:
            execute(run.command, run.cwd)
        except (OSError, subprocess.CalledProcessError):
            if not run.undo:  # nothing of it to take back; else half of it may have been done
                commands.pop()
            raise

    def _take_back(self) -> str:
        """Undo everything of this run; the sentence that says how far."""
        parts = [part for part in (self._in_environment, self._in_checkout) if part]
        if not parts:
            return "Nothing was changed."
        try:
            undone = restore(self.root, self._in_checkout, self._in_environment)
        except DoctorError as error:
            return f"Taking this run back failed too: {error} `--undo` tries again."
        stays = "".join(f" Not `{typed(run)}`, which nothing takes back." for run in undone.kept)
        return f"Everything of this run was taken back.{stays}"


def _sentence(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return f"`{typed(Run(tuple(error.cmd)))}` ended with status {error.returncode}."
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}."
    text = str(error)
    return text if text.endswith(".") else f"{text}."
