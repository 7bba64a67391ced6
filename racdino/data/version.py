"""One version of a data set folder: its tables, and which of its scenes belong to which info file."""

from __future__ import annotations

import os
from pathlib import Path

from tqdm import tqdm

from racdino.data.info import SPLITS
from racdino.data.tables import Scene, Tables, read_tables


class DataError(Exception):
    """The command cannot go on; the message is one sentence."""


def read_version(root: Path, version: str) -> Tables:
    """The tables of ``root/version``, with progress on the terminal.

    Raises:
        DataError: there is no such folder; the message says which versions there are.
        TableError: see `tables.read_tables`.
    """
    folder = root / version
    if not folder.is_dir():
        if not root.is_dir():
            raise DataError(f"There is no folder {root}.")
        others = ", ".join(sorted(path.name for path in root.glob("v1.0-*") if path.is_dir())) or "none"
        raise DataError(f"{root} has no folder {version} with nuScenes' tables; versions that it has: {others}.")
    size = sum(path.stat().st_size for path in folder.glob("*.json"))
    with tqdm(total=size, unit="B", unit_scale=True, desc="tables", disable=None, leave=False) as bar:
        return read_tables(root, version, bar)


def scenes_of_splits(tables: Tables) -> dict[str, list[Scene]]:
    """Info file name to its scenes, by the devkit's official splits.

    Raises:
        DataError: none of the scenes has an official name.
    """
    from nuscenes.utils import splits

    files = SPLITS[tables.version]
    found = {}
    for split, file in files.items():
        names = set(getattr(splits, split))
        found[file] = [scene for scene in tables.scenes if scene.name in names]
    if not any(found.values()):
        raise DataError(
            f"None of the {len(tables.scenes)} scenes of {tables.version} is in nuScenes' official splits "
            f"{', '.join(files)}, so nobody can say what to train and what to test on."
        )
    return found


def prefix(root: Path) -> str:
    """How infos name files of ``root``: relative to the current directory where it lies inside, as upstream's do."""
    absolute = Path(os.path.abspath(root))  # noqa: PTH100  # links stay: data/nuscenes is often one
    here = Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)
