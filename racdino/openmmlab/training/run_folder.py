"""The folder of a run, and the checkpoint it goes on from."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from racdino.container import places
from racdino.openmmlab.training.errors import TrainingError
from racdino.training.checkpoints import CheckpointStore
from racdino.weights.checkpoint import CheckpointError, read_checkpoint


def choose(
    config: Path, work_dir: Path | None, resume: str | None, say: Callable[[str], None]
) -> tuple[Path, Path | None]:
    """Decide on the folder and the checkpoint to begin with, or None; nothing is written yet.

    Args:
        resume: a checkpoint, a folder, "auto", or None for a run from the beginning.
        say: told of each damaged checkpoint, and where there is nothing to resume.
    Raises:
        TrainingError: the folder belongs to another run, or the named checkpoint is missing or damaged.
    """
    runs = _outputs() / config.stem
    if resume == "auto":
        folder = work_dir or _newest_run(runs)
        found = folder and newest_whole(folder, say)
        if folder and found:
            return folder, found
        say(f"There is no checkpoint in {folder or runs} to resume: a new run begins.")
        resume = None
    folder = work_dir or runs / time.strftime("%Y-%m-%d_%H-%M-%S")
    checkpoint = _named(resume, say) if resume else None
    _refuse_newer(folder, checkpoint)
    return folder, checkpoint


def newest_whole(folder: Path, say: Callable[[str], None]) -> Path | None:
    """The newest undamaged checkpoint of ``folder``, each damaged one named; None where there is no checkpoint at all.

    Raises:
        TrainingError: there are some, and all are damaged.
    """
    if not folder.is_dir():
        return None
    damaged = 0
    for path, content in CheckpointStore(folder).newest():
        if not isinstance(content, CheckpointError):
            return path
        damaged += 1
        say(f"{content}; the checkpoint before it is used.")
    if damaged:
        raise TrainingError(f"Every checkpoint in {folder} is damaged: move them away to begin anew.")
    return None


def make(folder: Path) -> None:
    """Make the folder and see that it can be written; TrainingError where not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or error
        raise TrainingError(
            f"The work dir {folder} cannot be written ({reason}): choose another --work-dir."
        ) from error


def _outputs() -> Path:
    """As the entrypoint of the image decides; elsewhere ``outputs`` in the working directory."""
    return places.outputs() if places.in_image() or "RACDINO_OUTPUTS" in os.environ else Path("outputs")


def _newest_run(runs: Path) -> Path | None:
    folders = sorted(path for path in runs.glob("*") if path.is_dir() and CheckpointStore(path).positions())
    return folders[-1] if folders else None


def _named(resume: str, say: Callable[[str], None]) -> Path:
    path = Path(resume)
    if path.is_dir():
        if found := newest_whole(path, say):
            return found
        raise TrainingError(f"There is no checkpoint in {path}.")
    if not path.is_file():
        raise TrainingError(f"There is no checkpoint {path} to resume.")
    try:
        read_checkpoint(path)
    except CheckpointError as error:
        raise TrainingError(f"{error}; or resume the one before it, with --resume {path.parent}.") from error
    return path


def _refuse_newer(folder: Path, checkpoint: Path | None) -> None:
    """A later ``--resume auto`` would take the other run's checkpoints for this one's."""
    if not folder.is_dir() or not (there := CheckpointStore(folder).positions()):
        return
    if checkpoint is None:
        raise TrainingError(
            f"{folder} holds a run already ({there[-1].file_name}): continue it with --resume auto, or choose "
            "another --work-dir."
        )
    own = [at for at in there if (folder / at.file_name).resolve() == checkpoint.resolve()]
    if own != there[-1:]:
        raise TrainingError(
            f"{folder} holds {there[-1].file_name}, which is newer than {checkpoint}: move it away, or choose another "
            "--work-dir."
        )
