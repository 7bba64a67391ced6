"""Boxes from the LiDAR frame into the global frame, with the poses of one info."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from racdino.data.poses import rigid
from racdino.data.quaternions import product


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
    T_ego_from_lidar = rigid(lidar2ego, info["lidar2ego_translation"])
    T_global_from_lidar = rigid(ego2global, info["ego2global_translation"]) @ T_ego_from_lidar
    turn, shift = T_global_from_lidar[:3, :3], T_global_from_lidar[:3, 3]
    middle = rows[:, :3] + rows[:, 5:6] * [0.0, 0.0, 0.5]
    centre = middle @ turn.T + shift
    heading = np.zeros((len(rows), 4))
    heading[:, 0], heading[:, 3] = np.cos(rows[:, 6] / 2), np.sin(rows[:, 6] / 2)
    return GlobalBoxes(
        centre=centre,
        size=rows[:, [4, 3, 5]],
        rotation=product(product(ego2global, lidar2ego), heading),
        velocity=(rows[:, 7:9] @ turn[:, :2].T)[:, :2],
        distance=np.linalg.norm(centre[:, :2] - np.asarray(info["ego2global_translation"], np.float64)[:2], axis=1),
    )
