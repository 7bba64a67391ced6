"""Boxes from the LiDAR frame into the global frame, with the poses of one info."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class GlobalBoxes:
    """n boxes in the global frame, float64.

    Attributes:
        centre: (n, 3) metres, of the box's middle.
        size: (n, 3) metres: width, length, height, nuScenes' order.
        rotation: (n, 4) unit quaternions w, x, y, z.
        velocity: (n, 2) m/s.
        distance: (n,) metres in the ground plane from the ego pose, as the devkit measures it.
    """

    centre: np.ndarray
    size: np.ndarray
    rotation: np.ndarray
    velocity: np.ndarray
    distance: np.ndarray


def to_global(boxes: np.ndarray, info: Mapping[str, Any]) -> GlobalBoxes:
    """Rows (n, 9) in the LiDAR frame (x, y, z of the bottom, size along heading, across, up, yaw, vx, vy).

    ``info`` holds lidar2ego_{translation, rotation} and ego2global_{translation, rotation}, rotations as w, x, y, z.
    """
    rows = np.asarray(boxes, np.float64).reshape(-1, 9)
    lidar2ego, ego2global = (np.asarray(info[f"{key}_rotation"], np.float64) for key in ("lidar2ego", "ego2global"))
    T_global_from_lidar = pose(ego2global, info["ego2global_translation"]) @ pose(
        lidar2ego, info["lidar2ego_translation"]
    )
    turn, shift = T_global_from_lidar[:3, :3], T_global_from_lidar[:3, 3]
    middle = rows[:, :3] + rows[:, 5:6] * [0.0, 0.0, 0.5]
    centre = middle @ turn.T + shift
    heading = np.zeros((len(rows), 4))
    heading[:, 0], heading[:, 3] = np.cos(rows[:, 6] / 2), np.sin(rows[:, 6] / 2)
    return GlobalBoxes(
        centre=centre,
        size=rows[:, [4, 3, 5]],
        rotation=quaternion_product(quaternion_product(ego2global, lidar2ego), heading),
        velocity=(rows[:, 7:9] @ turn[:, :2].T)[:, :2],
        distance=np.linalg.norm(centre[:, :2] - np.asarray(info["ego2global_translation"], np.float64)[:2], axis=1),
    )


def pose(rotation: Any, translation: Any) -> np.ndarray:
    """4x4 out of a quaternion (w, x, y, z) and a translation in metres."""
    w, x, y, z = np.asarray(rotation, np.float64) / np.linalg.norm(rotation)
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = translation
    return matrix


def quaternion_product(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Hamilton product over the last axis (w, x, y, z): turns by ``second``, then by ``first``."""
    w1, x1, y1, z1 = np.moveaxis(first, -1, 0)
    w2, x2, y2, z2 = np.moveaxis(second, -1, 0)
    return np.stack(
        [
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
        ],
        axis=-1,
    )
