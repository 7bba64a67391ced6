"""RD813 and RD814: the info files are there and of the convention that the code reads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from racdino.doctor.check import Group, Problem, check
from racdino.doctor.checkout.configs.subject import at, configs_of, sections
from racdino.doctor.checkout.configs.text_config import TextConfig
from racdino.doctor.checkout.info_file import InfoFile, read_info_file
from racdino.doctor.checkout.subject import Checkout
from racdino.doctor.finding import Severity

_PREPARE = "racdino data prepare"


@check(
    "RD813",
    Group.DATA,
    "the info files are there",
    severity=Severity.OPTIONAL,
    remedy=f"make them from the data set's tables: {_PREPARE}",
    of_checkout=True,
)
def infos_are_there(checkout: Checkout) -> Iterator[Problem]:
    """The data set class reads its key frames from pickles (`ann_file`), which are made from nuScenes' tables once.
    Where they come from is among the most asked questions of this code (SparseBEV#72, #31, #78).

    Looked at: the files for training and validation, once the data set's folder is there; without the folder RD810 says
    so. `racdino data prepare` makes them without mmdet3d's `create_data.py`.
    """
    for path, name in _files(checkout).items():
        shown = os.path.relpath(path, checkout.root)
        if not path.is_file() and (path.parent / "samples").is_dir():
            yield Problem(f"{shown} is missing, which {name} reads", place=name)


@check(
    "RD814",
    Group.DATA,
    "the info files are of the convention that the data set class reads",
    remedy=f"make them anew from the data set's tables: {_PREPARE} (the old ones can be kept under another name)",
    of_checkout=True,
)
def infos_are_of_this_convention(checkout: Checkout) -> Iterator[Problem]:
    """Info files look alike and differ: those of mmdet3d before 1.0 have boxes with width before length and another
    yaw, which trains and evaluates with a bad mAOE and without any message (mmdet3d#2390, detr3d#31, PETR#71); those of
    mmdet3d 1.1 have `data_list` instead of `infos` (KeyError: 'infos', mmdet3d#2454); and those that
    `gen_sweep_info.py` has not been over have no radars (KeyError: 'rads', bevfusion#481).

    Told from the first 8 MiB of each file, whose opcodes are read and never executed: its keys, and whether the boxes
    of vehicles are longer along the first size (mmdet3d 1.0) or the second.
    """
    for path, name in _files(checkout).items():
        if path.is_file():
            wrong = fault_of(read_info_file(path))
            if wrong:
                shown = os.path.relpath(path, checkout.root)
                yield Problem(f"{shown} {wrong}", place=name)


def fault_of(info: InfoFile) -> str:
    """What is wrong with it, as the end of a sentence; empty where nothing can be seen."""
    if info.defect:
        return info.defect
    if "data_list" in info.words and "infos" not in info.words:
        return "is of mmdet3d 1.1 or later, which this code does not read (KeyError: 'infos')"
    if "infos" not in info.words:
        return "has no infos: it is some other pickle"
    if "cams" in info.words and "sweeps" in info.words and "rads" not in info.words:
        return "has no radars: it was made for cameras and LiDAR (KeyError: 'rads')"
    if info.long_axis == 1:
        return (
            "has boxes with width before length: it was made by mmdet3d before 1.0, whose boxes also turn the other way"
        )
    return ""


def _files(checkout: Checkout) -> dict[Path, str]:
    """Relative info files for training and validation, with the first config that reads each."""
    found: dict[Path, str] = {}
    for name, config in configs_of(checkout).detectors.items():
        for file in _ann_files(config):
            found.setdefault(Path(os.path.normpath(checkout.root / file)), name)
    return found


def _ann_files(config: TextConfig) -> Iterator[str]:
    for split in ("train", "val"):
        for _, section in sections(at(config.values, "data", split)):
            file, kind = section.get("ann_file"), section.get("type")
            if not isinstance(file, str) or not isinstance(kind, str) or "radar" not in kind.lower():
                continue
            if (
                file.endswith(".pkl")
                and "\0" not in file
                and not os.path.normpath(file).startswith(("/", "~", "outputs"))
            ):
                yield file
