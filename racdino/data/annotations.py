"""Boxes, names and velocities of one sample, in the LiDAR frame, as mmdet3d 1.0.0rc6's ``create_data`` writes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from racdino.data.problems import IMPOSSIBLE
from racdino.data.quaternions import conjugate, is_rotation, product, yaw
from racdino.data.tables import Annotation, Scene

Report = Callable[[str, str, str], None]

CLASS_OF_CATEGORY = {
    "vehicle.car": "car",
    "vehicle.truck": "truck",
    "vehicle.trailer": "trailer",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.construction": "construction_vehicle",
    "vehicle.bicycle": "bicycle",
    "vehicle.motorcycle": "motorcycle",
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "movable_object.trafficcone": "traffic_cone",
    "movable_object.barrier": "barrier",
}
_MAX_SECONDS = 1.5  # between two samples that tell a velocity; twice that across a sample


def annotation_arrays(
    scene: Scene,
    sample_token: str,
    times: Mapping[str, int],
    T_global_from_lidar: tuple[np.ndarray, np.ndarray],
    rotations: tuple[np.ndarray, np.ndarray],
    report: Report,
) -> tuple[dict[str, np.ndarray], int]:
    """The six ground-truth arrays of an info, and how many boxes were left out because no object has them.

    Args:
        times: microseconds of each sample of the scene.
        T_global_from_lidar: rotation (3, 3) and translation (3,). rotations: quaternions of ego in global and of the
            LiDAR in ego, whose product the rotation is.
        report: called with kind, name and text for each box left out.
    """
    all_rows = [row for row in scene.annotations.values() if row.sample_token == sample_token]
    rows = [row for row in all_rows if _is_possible(row, report)]
    numbers = np.array([row.numbers for row in rows], np.float64).reshape(-1, 10)
    R, t = T_global_from_lidar
    q_lidar_from_global = product(conjugate(rotations[1]), conjugate(rotations[0]))
    centres = (numbers[:, :3] - t) @ R
    angles = yaw(product(q_lidar_from_global, numbers[:, 6:]))
    velocity = np.array([_velocity(scene, row, times, report) for row in rows]).reshape(-1, 3)
    velocity[:, 2] = 0
    lidar_points = np.array([row.num_lidar_pts for row in rows], np.int64)
    radar_points = np.array([row.num_radar_pts for row in rows], np.int64)
    arrays = {
        "gt_boxes": np.concatenate([centres, numbers[:, [4, 3, 5]], angles[:, None]], axis=1),
        "gt_names": np.array([CLASS_OF_CATEGORY.get(row.category, row.category) for row in rows], str),
        "gt_velocity": (velocity @ R)[:, :2],
        "num_lidar_pts": lidar_points,
        "num_radar_pts": radar_points,
        "valid_flag": lidar_points + radar_points > 0,
    }
    return arrays, len(all_rows) - len(rows)


def _is_possible(row: Annotation, report: Report) -> bool:
    numbers = np.array(row.numbers)
    if not np.isfinite(numbers).all():
        text = "has a box with a number that is not finite"
    elif (numbers[3:6] <= 0).any():
        text = f"has a box of {' x '.join(f'{size:g}' for size in numbers[3:6])} m"
    elif not is_rotation(numbers[6:]):
        text = f"has the rotation {numbers[6:].tolist()}, which is no unit quaternion"
    else:
        return True
    report(IMPOSSIBLE, f"sample_annotation/{row.token}", text)
    return False


def _velocity(scene: Scene, row: Annotation, times: Mapping[str, Any], report: Report) -> np.ndarray:
    """(3,) m/s in global: from the boxes before and after, NaN where there are none or too far apart in time."""
    first, last = (_neighbour(scene, row, token, report) for token in (row.prev, row.next))
    begin, end = first or row, last or row
    seconds = 1e-6 * times[end.sample_token] - 1e-6 * times[begin.sample_token]
    if not 0 < seconds <= _MAX_SECONDS * (2 if first and last else 1):
        return np.full(3, np.nan)
    return (np.array(end.numbers[:3]) - np.array(begin.numbers[:3])) / seconds


def _neighbour(scene: Scene, row: Annotation, token: str, report: Report) -> Annotation | None:
    if token and token not in scene.annotations:
        report(IMPOSSIBLE, f"sample_annotation/{row.token}", f"names {token} as its neighbour, which is not there")
    return scene.annotations.get(token)
