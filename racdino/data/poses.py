"""Rigid transforms T_a_from_b (4, 4) float64 from an info's quaternions (w, x, y, z) and metres."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from racdino.data.quaternions import rotation_matrix


def rigid(rotation: Sequence[float] | np.ndarray, translation: Sequence[float] | np.ndarray) -> np.ndarray:
    """(4, 4) from a quaternion (4,) and metres (3,)."""
    T = np.eye(4)
    T[:3, :3] = rotation_matrix(np.asarray(rotation, np.float64))
    T[:3, 3] = translation
    return T


def inverse_rigid(T: np.ndarray) -> np.ndarray:
    """The inverse of a rigid transform (4, 4)."""
    inverse = np.eye(4)
    inverse[:3, :3] = T[:3, :3].T
    inverse[:3, 3] = -T[:3, :3].T @ T[:3, 3]
    return inverse


def lidar_from_global(info: Mapping[str, Any]) -> np.ndarray:
    """(4, 4) from global coordinates to the LiDAR frame of a key frame's info."""
    T_ego_from_lidar = rigid(info["lidar2ego_rotation"], info["lidar2ego_translation"])
    T_global_from_ego = rigid(info["ego2global_rotation"], info["ego2global_translation"])
    return inverse_rigid(T_global_from_ego @ T_ego_from_lidar)
