"""A whole data set in its place, or none: rendered beside it and renamed at the end."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from racdino.synthetic.calibration import CHANNELS
from racdino.synthetic.parameters import RENDERER, Parameters
from racdino.synthetic.tables import write_tables
from racdino.synthetic.workers import render_scenes

MARKER = "SYNTHETIC.md"
_MARK = "parameters: "
_NOTE = """# This data set is synthetic

`racdino data synthesize` rendered it. It has nuScenes' file format and scene names, so that nuScenes' tools read it,
and nothing else of nuScenes: no image, no point and no box was recorded. Results on it are no results on nuScenes.

{mark}{parameters}
"""


class NotSyntheticError(ValueError):
    """The folder holds something that was not rendered; the message names it."""


def synthesize(root: Path, parameters: Parameters, workers: int | None = None) -> bool:
    """Render the data set into ``root``, unless it is there already.

    An older synthetic data set in ``root`` is replaced as a whole, info files included.

    Args:
        workers: processes; by default one per CPU that this process may use.
    Returns:
        True when it was rendered, False when ``root`` held the same one.
    Raises:
        NotSyntheticError: ``root`` has content without our marker. OSError: it cannot be written.
    """
    root = root.resolve()
    root.parent.mkdir(parents=True, exist_ok=True)
    workers = workers or len(os.sched_getaffinity(0))
    with _alone(root.parent):
        _clear_left_overs(root)
        if parameters_of(root) == _as_json(parameters):
            return False
        if root.exists() and not (root / MARKER).is_file() and (not root.is_dir() or any(root.iterdir())):
            raise NotSyntheticError(f"{root} holds something that racdino did not render (no {MARKER}); it is kept")
        partial = root.with_name(f".{root.name}.partial-{os.getpid()}")
        try:
            _render(partial, parameters, min(workers, parameters.scenes))
            old = root.with_name(f".{root.name}.old")
            if root.exists():
                root.rename(old)
            partial.rename(root)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return True


def parameters_of(root: Path) -> str | None:
    """What the synthetic data set in ``root`` was made from, as JSON; None where there is none."""
    marker = root / MARKER
    if not marker.is_file():
        return None
    lines = [line for line in marker.read_text().splitlines() if line.startswith(_MARK)]
    return lines[0].removeprefix(_MARK) if lines else None


def _as_json(parameters: Parameters) -> str:
    return json.dumps({"renderer": RENDERER, **dataclasses.asdict(parameters)})


def _render(root: Path, parameters: Parameters, workers: int) -> None:
    for folder in ("samples", "sweeps"):
        for channel in CHANNELS:
            (root / folder / channel).mkdir(parents=True)
    scenes = render_scenes(parameters, parameters.scene_names(), root, workers)
    write_tables(root, parameters, scenes)
    with (root / MARKER).open("w") as file:
        file.write(_NOTE.format(mark=_MARK, parameters=_as_json(parameters)))
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process renders into ``folder``; several that ask for the same get it once."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _clear_left_overs(root: Path) -> None:
    """Take away what a killed run left beside ``root``; bring back what it had moved out of the way."""
    old = root.with_name(f".{root.name}.old")
    if old.exists() and not root.exists():
        old.rename(root)
    for path in [old, *root.parent.glob(f".{root.name}.partial-*")]:
        shutil.rmtree(path, ignore_errors=True)
