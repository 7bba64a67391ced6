"""`racdino data prepare`: info files from the raw data set."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from racdino.data.info import FORMAT
from racdino.data.parts import PICKLE_PROTOCOL, Parts, Report
from racdino.data.problems import Problem, unique
from racdino.data.scene_infos import scene_infos
from racdino.data.scene_pool import each_scene
from racdino.data.tables import Scene, Tables
from racdino.data.version import prefix, read_version, scenes_of_splits


class Prepared(NamedTuple):
    """``files``: each info file with its number of key frames; empty when nothing was written."""

    files: dict[Path, int]
    problems: list[Problem]
    left_out: Counter[str]
    without_split: int


def prepare(root: Path, version: str, workers: int, skip: bool) -> Prepared:
    """Write the info files of ``version`` into ``root``, as `info.py` describes them.

    Every file that training uses is checked. Nothing is written when no key frame is whole, or when something is wrong
    and ``skip`` is false. Finished scenes stay in a hidden folder until the files are written, so that a run that was
    interrupted continues, and one that stopped for a problem looks again only where there was one.

    Raises:
        DataError, TableError: one sentence. OSError: the folder cannot be written.
    """
    tables = read_version(root, version)
    splits = scenes_of_splits(tables)
    scenes = [scene for members in splits.values() for scene in members]
    shown = prefix(root)
    with Parts(root, version, tables.digest, shown) as parts:
        reports = _finish(tables, scenes, root, shown, parts, workers)
        problems = unique(problem for report in reports.values() for problem in report.problems)
        left_out = sum((report.left_out for report in reports.values()), Counter[str]())
        files: dict[Path, int] = {}
        if any(report.rows for report in reports.values()) and (skip or not problems):
            files = {
                root / file: _write(root / file, members, reports, parts, tables) for file, members in splits.items()
            }
            parts.remove()
    return Prepared(files, problems, left_out, len(tables.scenes) - len(scenes))


def _finish(
    tables: Tables, scenes: Sequence[Scene], root: Path, shown: str, parts: Parts, workers: int
) -> dict[str, Report]:
    """The report of every scene by token, in the order of ``scenes``."""
    reports = {scene.token: parts.report(scene) for scene in scenes}
    missing = [scene for scene in scenes if not parts.is_current(reports[scene.token])]

    def finish(scene: Scene) -> None:
        parts.store(scene, scene_infos(tables, scene, root, shown))

    for index, _ in each_scene(finish, missing, workers, parts.lock):
        reports[missing[index].token] = parts.report(missing[index])
    return {token: report for token, report in reports.items() if report}


def _write(path: Path, scenes: Sequence[Scene], reports: Mapping[str, Report], parts: Parts, tables: Tables) -> int:
    """Write one info file, key frames in the order of the table; returns how many."""
    rows: list[tuple[int, dict[str, Any]]] = []
    for scene in scenes:
        rows += zip(reports[scene.token].rows, parts.infos(scene), strict=True)
    rows.sort(key=lambda row: row[0])
    metadata = {"version": tables.version, "racdino": FORMAT, "tables": tables.digest}
    with parts.replacing(path) as file:
        pickle.dump({"infos": [info for _, info in rows], "metadata": metadata}, file, PICKLE_PROTOCOL)
    return len(rows)
