"""Info files: one pickle per split that says of every key frame what training and evaluation need.

The names are in ``SPLITS``; the files lie in the data set's folder and hold

    dict(infos=[info, ...], metadata=dict(version="v1.0-trainval", racdino=2, tables=<sha256 of the JSON tables>))

in the order of the ``sample`` table. An info has the keys of mmdet3d 1.0's ``create_data`` and of upstream's script:

    token, timestamp                  the sample's; microseconds
    lidar_path                        its LiDAR key frame
    lidar2ego_translation, _rotation  lists of 3 metres and 4 (w, x, y, z)
    ego2global_translation, _rotation at the LiDAR's time
    cams[channel]                     the six key-frame images: data_path, type, timestamp, cam_intrinsic (3, 3),
                                      sensor2lidar_rotation (3, 3), sensor2lidar_translation (3,),
                                      sensor2global_rotation (3, 3), which is TRANSPOSED, so that row vectors in the
                                      sensor's frame are multiplied by it, and sensor2global_translation (3,)
    rads[channel]                     the five key-frame radar rows of ``sample_data`` with ``channel`` and
                                      ``sensor_modality``, or None where there is no usable file
    sweeps                            up to five moments between this key frame and the one before, newest first:
                                      dicts of six cameras (data_path, timestamp, cam_intrinsic, sensor2global_*) and
                                      five radars (as in ``rads``). Where a camera's recording begins, the last moment
                                      is repeated; a moment without all six images on disk is left out; empty for the
                                      first key frame of a scene. (Upstream's list goes on beyond the key frame before
                                      where there are fewer than five)
    gt_boxes (n, 7) float64           x, y, z of the CENTRE, length, width, height in metres, yaw, in the LiDAR frame
    gt_names (n,) str                 the ten detection classes, other categories by their full names
    gt_velocity (n, 2) float64        in the LiDAR frame, m/s; NaN where it cannot be told
    num_lidar_pts, num_radar_pts (n,) points in each box; valid_flag (n,) bool: whether there is any
                                      (these six are absent from v1.0-test)

and ours:

    scene_token, scene_name
    prev                              token of the key frame before this one in this file, "" if there is none
    radar_history[channel]            the sweeps from this key frame's own, newest first, back to but without the one
                                      of the key frame before (older ones: in the info that ``prev`` leads to), as
                                      dict(filename: [str] relative to the data set, token: [str],
                                      timestamp (k,) int64 microseconds, ego2global_translation (k, 3),
                                      ego2global_rotation (k, 4), sensor2ego_translation (3,),
                                      sensor2ego_rotation (4,)). Absent and damaged files are left out; k may be 0.

``data_path`` and ``lidar_path`` begin with the data set's folder as seen from where ``racdino data prepare`` ran.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from racdino.verify import restricted_pickle

FORMAT = 2
SPLITS = {  # version: info file of each of the devkit's splits
    "v1.0-trainval": {"train": "nuscenes_infos_train_sweep.pkl", "val": "nuscenes_infos_val_sweep.pkl"},
    "v1.0-mini": {"mini_train": "nuscenes_infos_train_mini_sweep.pkl", "mini_val": "nuscenes_infos_val_mini_sweep.pkl"},
    "v1.0-test": {"test": "nuscenes_infos_test_sweep.pkl"},
}
_OURS = ("scene_token", "prev", "radar_history")
_REMEDY = "make it anew with `racdino data prepare`"


class InfoFileError(ValueError):
    """The info file is absent, damaged or of another convention; the message names it and what to do."""


def read_infos(path: str | Path) -> list[dict[str, Any]]:
    """The infos of ``path``, as described above.

    Raises:
        InfoFileError: one sentence.
    """
    return read_info_file(path)["infos"]


def read_info_file(path: str | Path) -> dict[str, Any]:
    """``infos`` and ``metadata`` of ``path``; InfoFileError as ``read_infos``."""
    try:
        content = restricted_pickle.load(Path(path))
    except FileNotFoundError:
        raise InfoFileError(f"Info file {path} is not there: make it with `racdino data prepare`.") from None
    except OSError as error:
        raise InfoFileError(f"Info file {path} cannot be read ({error.strerror}).") from error
    except pickle.UnpicklingError as error:
        raise InfoFileError(f"Info file {path} cannot be read, {error}: {_REMEDY}.") from error
    problem = _foreign(content)
    if problem:
        raise InfoFileError(f"Info file {path} {problem}: {_REMEDY}.")
    return content


def _foreign(content: Any) -> str | None:
    """What convention ``content`` is of, if not ours."""
    if isinstance(content, Mapping) and "data_list" in content:
        return "is in the format of mmdet3d 1.1 and later (data_list)"
    if not isinstance(content, Mapping) or not isinstance(content.get("infos"), list):
        return f"is no info file: it holds a {type(content).__name__} without a list of infos"
    infos = content["infos"]
    if not all(isinstance(info, Mapping) for info in infos):
        return "is no info file: its infos are no dictionaries"
    written = content.get("metadata", {}).get("racdino")
    if written is None and _width_before_length(infos):
        return "has the boxes of mmdet3d before 1.0 (width before length, other yaw)"
    missing = {key for info in infos for key in _OURS if key not in info}
    if missing:
        return f"was not written by racdino: {', '.join(sorted(missing))} missing"
    return None if written == FORMAT else f"is of racdino's format {written}, this is {FORMAT}"


def _width_before_length(infos: list[dict[str, Any]]) -> bool:
    """Whether most cars are wider than long."""
    cars = [info["gt_boxes"][info["gt_names"] == "car"] for info in infos if len(info.get("gt_names", ()))]
    boxes = np.concatenate(cars) if cars else np.zeros((0, 7))
    return len(boxes) > 0 and bool(np.median(boxes[:, 4] - boxes[:, 3]) > 0)
