"""What ``--undo`` needs: the files of a run before their first edit, and the commands that take its commands back.

The files' part lies in the checkout, ``.racdino-doctor/<n>``; the commands' part in the environment,
``racdino/doctor/<n>``, because a checkout from elsewhere must not say what ``--undo`` executes. Each is a folder with
``manifest.json``; the parts of one run carry the same ``run``.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from racdino.doctor.errors import DoctorError
from racdino.doctor.mend import files
from racdino.doctor.mend.plan import Run

IN_CHECKOUT = ".racdino-doctor"
IN_ENVIRONMENT = "racdino/doctor"
_MANIFEST = "manifest.json"


@dataclass
class SavedFile:
    """``before`` is the digest of the copy that the backup holds, None for a file that was not there.

    ``written`` are the digests of everything that the doctor put in its place, in this run.
    """

    before: str | None
    written: list[str]


@dataclass
class Manifest:
    """One part of a run.

    Attributes:
        run: the same for both parts.
        time: in nanoseconds; later runs are taken back first.
        checkout: that the run was about, empty for none.
        environment: whose commands were run, empty for none; a checkout's part is not restored without the other.
    """

    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    time: int = field(default_factory=time.time_ns)
    checkout: str = ""
    environment: str = ""
    files: dict[str, SavedFile] = field(default_factory=dict)
    commands: list[Run] = field(default_factory=list)


class Part:
    """A backup's folder with its manifest; every change of the manifest is on disk before what it describes happens."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest

    @classmethod
    def create(cls, store: Path, manifest: Manifest) -> Part:
        """A new folder after the last.

        Raises:
            DoctorError: ``store`` cannot be written, so that nothing can be mended there.
        """
        try:
            _make_store(store)
            folder = store / str(max(_numbers(store), default=0) + 1)
            folder.mkdir()
            files.own(folder, store.parent.stat())
            part = cls(folder, manifest)
            part.save()
        except OSError as error:
            raise DoctorError(f"Nothing was mended: no backup can be written to {store} ({error.strerror}).") from error
        return part

    def save(self) -> None:
        files.write(self.folder / _MANIFEST, json.dumps(asdict(self.manifest), indent=1).encode("ascii"))

    def remember(self, change_name: str, before: bytes | None, after: bytes) -> None:
        """Note a change that is about to be made; the first content in a run is the one kept."""
        saved = self.manifest.files.get(change_name)
        if saved is None:
            saved = SavedFile(None if before is None else files.digest(before), [])
            self.manifest.files[change_name] = saved
            if before is not None:
                files.write(self.folder / files.digest(before), before)
        saved.written.append(files.digest(after))
        self.save()

    def original(self, saved: SavedFile) -> bytes | None:
        """The content to restore, None for a file to delete.

        Raises:
            DoctorError: the backup is damaged.
        """
        if saved.before is None:
            return None
        try:
            content = files.read(self.folder / saved.before)
        except files.RefusedError as error:
            raise DoctorError(f"The backup {self.folder} is damaged: {error}.") from error
        if files.digest(content) != saved.before:
            raise DoctorError(f"The backup {self.folder} is damaged: {saved.before} is not what was saved.")
        return content

    def remove(self) -> None:
        """Delete the folder, and the store with the last one."""
        store = self.folder.parent
        shutil.rmtree(str(self.folder))
        if not _numbers(store):
            shutil.rmtree(str(store))


def newest(store: Path, checkout: str | None = None) -> Part | None:
    """The latest backup of a store, of one checkout where it is named."""
    found = [_load(store / str(number)) for number in _numbers(store)]
    found = [part for part in found if checkout is None or part.manifest.checkout == checkout]
    return max(found, key=lambda part: part.manifest.time, default=None)


def _make_store(store: Path) -> None:
    if store.is_symlink():
        raise DoctorError(f"{store} is a symbolic link; remove it, the doctor's backups lie there.")
    new = not store.exists()
    store.mkdir(parents=True, exist_ok=True)
    if new:
        files.own(store, store.parent.stat())
        files.write(store / ".gitignore", b"*\n")


def _numbers(store: Path) -> list[int]:
    if store.is_symlink() or not store.is_dir():
        return []
    folders = [entry.name for entry in os.scandir(str(store)) if entry.is_dir(follow_symlinks=False)]
    return [int(name) for name in folders if name.isdecimal() and str(int(name)) == name]


def _load(folder: Path) -> Part:
    try:
        value: dict[str, Any] = json.loads(files.read(folder / _MANIFEST).decode("ascii"))
        value["files"] = {name: _saved(**saved) for name, saved in value["files"].items()}
        value["commands"] = [Run(tuple(run["command"]), tuple(run["undo"]), run["cwd"]) for run in value["commands"]]
        value["time"] = int(value["time"])
        value["environment"] = str(value["environment"])
        return Part(folder, Manifest(**value))
    except (
        files.RefusedError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
        OverflowError,
    ) as error:
        raise DoctorError(f"The backup {folder} is damaged ({error}); if you do not need it, delete it.") from error


def _saved(before: str | None, written: list[str]) -> SavedFile:
    return SavedFile(None if before is None else str(before), [str(one) for one in written])
