"""`racdino data check`: is the data set folder whole, and do its info files describe it?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from racdino.data.info import InfoFileError, read_info_file
from racdino.data.problems import Problem, unique
from racdino.data.scene_infos import scene_infos
from racdino.data.scene_pool import each_scene
from racdino.data.tables import Scene, Tables
from racdino.data.version import prefix, read_version, scenes_of_splits

Contents = tuple[str, ...]  # the tokens and files that an info names


class Checked(NamedTuple):
    """``samples``: key frames that are whole, by info file; ``findings``: what is wrong with the info files."""

    samples: dict[Path, int]
    problems: list[Problem]
    findings: list[str]


def check(root: Path, version: str, workers: int) -> Checked:
    """Look at every file that training uses and at the info files. Writes nothing.

    Raises:
        DataError, TableError: the tables cannot be read.
    """
    tables = read_version(root, version)
    splits = scenes_of_splits(tables)
    scenes = [scene for members in splits.values() for scene in members]
    shown = prefix(root)

    def look(scene: Scene) -> tuple[list[tuple[int, Contents]], list[Problem]]:
        part = scene_infos(tables, scene, root, shown)
        return [(row, contents(info)) for row, info in zip(part.rows, part.infos, strict=True)], part.problems

    seen = {scenes[index].token: result for index, result in each_scene(look, scenes, workers)}
    problems = unique(problem for scene in scenes for problem in seen[scene.token][1])
    samples: dict[Path, int] = {}
    findings: list[str] = []
    for file, members in splits.items():
        expected = sorted(row for scene in members for row in seen[scene.token][0])
        samples[root / file] = len(expected)
        findings += _findings(root / file, tables, [found for _, found in expected])
    return Checked(samples, problems, findings)


def _findings(path: Path, tables: Tables, expected: Sequence[Contents]) -> Iterator[str]:
    remedy = "make it anew with `racdino data prepare`"
    try:
        content = read_info_file(path)
    except InfoFileError as error:
        yield str(error)
        return
    metadata, infos = content["metadata"], content["infos"]
    if metadata.get("version") != tables.version or metadata.get("tables") != tables.digest:
        yield f"Info file {path} was made from other tables than those in {tables.version}: {remedy}."
        return
    if len(infos) != len(expected):
        yield f"Info file {path} has {len(infos)} key frames where the folder has {len(expected)}: {remedy}."
    different = [info["token"] for info, wanted in zip(infos, expected, strict=False) if contents(info) != wanted]
    if different:
        yield (
            f"Info file {path} names other files than the folder has for {len(different)} key frames, "
            f"{different[0]} for one: {remedy}."
        )


def contents(info: Mapping[str, Any]) -> Contents:
    """The tokens and files that ``info`` names, files relative to the data set."""
    moments = [{**info["cams"], **info["rads"]}, *info["sweeps"]]
    paths = [_path(record) for moment in moments for _, record in sorted(moment.items())]
    history = [name for _, radar in sorted(info["radar_history"].items()) for name in radar["filename"]]
    return (info["token"], info["prev"], _relative(info["lidar_path"]), *paths, *history)


def _path(record: Mapping[str, Any] | None) -> str:
    if record is None:
        return ""
    return _relative(record["data_path"]) if "data_path" in record else record["filename"]


def _relative(path: str) -> str:
    """The part from samples/ or sweeps/ on."""
    return "/".join(PurePath(path).parts[-3:])
