"""A data set folder that is whole as far as names go, with two key frames and info files that say nothing wrong."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from racdino.doctor.checkout.data import CAMERAS, RADARS, TABLES

INFOS = ("nuscenes_infos_train_sweep.pkl", "nuscenes_infos_val_sweep.pkl")
CAR, BUS, WALKER = (4.6, 1.9, 1.7), (11.0, 2.9, 3.5), (0.7, 0.7, 1.8)


def data_set(checkout: Path) -> Path:
    """``data/nuscenes`` in ``checkout``."""
    root = checkout / "data" / "nuscenes"
    for part, sensors in (("samples", (*CAMERAS, *RADARS, "LIDAR_TOP")), ("sweeps", (*CAMERAS, *RADARS))):
        for sensor in sensors:
            (root / part / sensor).mkdir(parents=True)
            for frame in range(2):
                (root / part / sensor / f"{frame}.bin").touch()
    (root / "v1.0-trainval").mkdir()
    for table in TABLES:
        (root / "v1.0-trainval" / f"{table}.json").write_text("[{}]", encoding="utf-8")
    for name in INFOS:
        write_infos(root / name)
    return root


def write_infos(path: Path, first: int = 0, protocol: int = 4, **changes: Any) -> None:
    """An info file of two key frames; ``first`` is the axis along which its vehicles are long; None drops a key."""
    content = {"infos": [info(first, changes) for _ in range(2)], "metadata": {"version": "v1.0-trainval"}}
    path.write_bytes(pickle.dumps(content, protocol=protocol))


def info(first: int, changes: Mapping[str, Any]) -> dict[str, Any]:
    """One key frame with three cars, a bus and a pedestrian."""
    sizes = np.array([CAR, CAR, CAR, BUS, WALKER])
    if first:
        sizes = sizes[:, [1, 0, 2]]
    boxes = np.concatenate([np.ones((5, 3)), sizes, np.zeros((5, 1))], axis=1)
    found = {
        "token": "0",
        "cams": {name: {"data_path": f"{name}.jpg", "cam_intrinsic": np.eye(3)} for name in CAMERAS},
        "rads": dict.fromkeys(RADARS),
        "sweeps": [],
        "gt_boxes": boxes,
        "gt_names": np.array(["car", "car", "car", "bus", "pedestrian"]),
        **changes,
    }
    return {key: value for key, value in found.items() if value is not None}
