"""What goes wrong with weights and the data set."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

from scripts.drill.fault import Fault
from scripts.drill.small_data import INFOS, data_set, write_infos

RESNET = "pretrain/cascade_mask_rcnn_r50_fpn_coco-20e_20e_nuim_20201009_124951-40963960.pth"


def weights(content: bytes) -> Callable[[Path], None]:
    """The ResNet's file, with other content."""

    def break_it(copy: Path) -> None:
        (copy / RESNET).parent.mkdir(exist_ok=True)
        (copy / RESNET).write_bytes(content)

    return break_it


def cut_archive(copy: Path) -> None:
    """A checkpoint of which the second half is missing."""
    path = copy / "pretrain" / "mine.pth"
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", bytes(4096))
    path.write_bytes(path.read_bytes()[:2048])


def in_data(break_data: Callable[[Path], None]) -> Callable[[Path], None]:
    """First a whole data set, then ``break_data`` with its folder."""
    return lambda copy: break_data(data_set(copy))


FAULTS = [
    Fault("a log-in page in place of weights", "RD802", weights(b"<!DOCTYPE html><title>Sign in</title>")),
    Fault("a git-lfs pointer in place of weights", "RD802", weights(b"version https://git-lfs.github.com/spec/v1\n")),
    Fault("a checkpoint whose copy stopped", "RD802", cut_archive),
    Fault(
        "a sensor whose archive was not unpacked",
        "RD811",
        in_data(lambda root: shutil.rmtree(root / "samples/RADAR_FRONT")),
    ),
    Fault("a camera with fewer key frames", "RD811", in_data(lambda root: (root / "samples/CAM_BACK/0.bin").unlink())),
    Fault(
        "tables that were not unpacked",
        "RD812",
        in_data(lambda root: (root / "v1.0-trainval/sample_data.json").unlink()),
    ),
    Fault("info files that nobody made", "RD813", in_data(lambda root: (root / INFOS[0]).unlink())),
    Fault("info files of mmdet3d before 1.0", "RD814", in_data(lambda root: write_infos(root / INFOS[0], first=1))),
    Fault("info files without radars", "RD814", in_data(lambda root: write_infos(root / INFOS[0], rads=None))),
    Fault("info files that end early", "RD814", in_data(lambda root: cut(root / INFOS[0]))),
]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])
