"""What `racdino data prepare` has finished, scene by scene, so that an interrupted run continues."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pickle
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from racdino.data.info import FORMAT
from racdino.data.problems import ABSENT, DAMAGED, Problem
from racdino.data.scene_infos import ScenePart
from racdino.data.tables import Scene
from racdino.data.version import DataError
from racdino.verify import restricted_pickle

PICKLE_PROTOCOL = 4  # numpy's arrays in 5 name a function that upstream's numpy and restricted_pickle do not know


class Report(NamedTuple):
    """A finished scene without its infos."""

    rows: list[int]
    problems: list[Problem]
    left_out: Counter[str]


class Parts:
    """A hidden folder in the data set with a pickle of infos and a report per scene.

    Its name holds a hash of the tables and of all else that decides what the infos are, so that parts of other tables
    are never taken. Locked as long as the object is open.
    """

    def __init__(self, root: Path, version: str, *decisive: str) -> None:
        key = hashlib.sha256("\0".join([version, str(FORMAT), *decisive]).encode()).hexdigest()[:16]
        self.root = root
        self.folder = root / f".racdino_prepare_{version}_{key}"
        self._pattern = f".racdino_prepare_{version}_*"

    def __enter__(self) -> Parts:
        self.folder.mkdir(exist_ok=True)
        self.lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self.lock)
            raise DataError(f"Another `racdino data prepare` is at work in {self.root}: wait for it.") from None
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.lock)

    def store(self, scene: Scene, part: ScenePart) -> None:
        """Keep a finished scene; its report comes last, so that there is none without infos."""
        with self.replacing(self._infos(scene)) as file:
            pickle.dump(part.infos, file, PICKLE_PROTOCOL)
        report = {"rows": part.rows, "problems": part.problems, "left_out": part.left_out}
        with self.replacing(self._report(scene)) as file:
            file.write(json.dumps(report).encode())

    def report(self, scene: Scene) -> Report | None:
        """The report of a finished scene; None where there is none."""
        try:
            content = json.loads(self._report(scene).read_bytes())
        except FileNotFoundError:
            return None
        problems = [Problem(*problem) for problem in content["problems"]]
        return Report(content["rows"], problems, Counter(content["left_out"]))

    def is_current(self, report: Report | None) -> bool:
        """Whether the scene is finished and no repair of its files can have made the report untrue."""
        return report is not None and not any(
            problem.kind == DAMAGED or (problem.kind == ABSENT and (self.root / problem.name).exists())
            for problem in report.problems
        )

    def infos(self, scene: Scene) -> list[dict[str, Any]]:
        """The infos of a finished scene."""
        return restricted_pickle.load(self._infos(scene))

    def remove(self) -> None:
        """Delete this folder and those of other tables of the version."""
        for folder in self.root.glob(self._pattern):
            shutil.rmtree(folder)

    @contextlib.contextmanager
    def replacing(self, path: Path) -> Iterator[BinaryIO]:
        """A file in this folder that takes the place of ``path`` when the block ends well.

        A killed run leaves nothing elsewhere.
        """
        handle, name = tempfile.mkstemp(dir=self.folder, prefix="unfinished.")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o644)  # mkstemp's 0600 would hide the file from the user's group
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _infos(self, scene: Scene) -> Path:
        return self.folder / f"{scene.name}.pkl"

    def _report(self, scene: Scene) -> Path:
        return self.folder / f"{scene.name}.json"
