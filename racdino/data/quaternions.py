"""Rotations as nuScenes writes them: unit quaternions w, x, y, z."""

from __future__ import annotations

import numpy as np

_UNIT_TOLERANCE = 1e-3  # rounding to a few digits passes, a missing or changed component does not


def is_rotation(quaternions: np.ndarray) -> np.ndarray:
    """(...) bool: whether each of ``quaternions`` (..., 4) is finite and of unit length within 1e-3."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.abs(np.linalg.norm(quaternions, axis=-1) - 1) < _UNIT_TOLERANCE


def rotation_matrix(quaternions: np.ndarray) -> np.ndarray:
    """(..., 3, 3) float64 of ``quaternions`` (..., 4), which are brought to unit length first."""
    w, x, y, z = np.moveaxis(_unit(quaternions), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


def conjugate(quaternions: np.ndarray) -> np.ndarray:
    """The inverse rotations of unit ``quaternions`` (..., 4)."""
    return np.asarray(quaternions, np.float64) * [1, -1, -1, -1]


def product(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(..., 4): the rotation ``second`` followed by ``first``, both (..., 4)."""
    a, b, c, d = np.moveaxis(np.asarray(first, np.float64), -1, 0)
    w, x, y, z = np.moveaxis(np.asarray(second, np.float64), -1, 0)
    parts = [
        a * w - b * x - c * y - d * z,
        a * x + b * w + c * z - d * y,
        a * y - b * z + c * w + d * x,
        a * z + b * y - c * x + d * w,
    ]
    return np.stack(parts, axis=-1)


def yaw(quaternions: np.ndarray) -> np.ndarray:
    """(...) radians as pyquaternion's ``yaw_pitch_roll`` and so mmdet3d's info files have it.

    With roll or pitch this differs from the direction of the box's length axis by second-order terms.
    """
    w, x, y, z = np.moveaxis(_unit(quaternions), -1, 0)
    return np.arctan2(2 * (w * z - x * y), 1 - 2 * (y * y + z * z))


def _unit(quaternions: np.ndarray) -> np.ndarray:
    quaternions = np.asarray(quaternions, np.float64)
    return quaternions / np.linalg.norm(quaternions, axis=-1, keepdims=True)
