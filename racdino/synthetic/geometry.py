"""Poses, cuboids and the rays that hit them. Poses are ``T_a_from_b`` (4, 4) float64; metres, radians."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

# Corners of a unit cuboid, in halves of length, width and height; bottom first.
_CORNERS = np.array([[x, y, z] for z in (-1, 1) for x, y in ((1, 1), (-1, 1), (-1, -1), (1, -1))])


@dataclass(frozen=True)
class Boxes:
    """n upright cuboids in the global frame.

    Attributes:
        centre: (n, 3).
        size: (n, 3) length, width, height.
        yaw: (n,) of the length axis, counter-clockwise from +x.
    """

    centre: np.ndarray
    size: np.ndarray
    yaw: np.ndarray

    def __len__(self) -> int:
        return len(self.yaw)

    def __getitem__(self, chosen: np.ndarray) -> Boxes:
        return Boxes(self.centre[chosen], self.size[chosen], self.yaw[chosen])

    def rotations(self) -> np.ndarray:
        """(n, 3, 3): columns are the length, width and height axes."""
        turns = np.zeros((len(self), 3, 3))
        turns[:, 0, 0] = turns[:, 1, 1] = np.cos(self.yaw)
        turns[:, 1, 0] = np.sin(self.yaw)
        turns[:, 0, 1] = -turns[:, 1, 0]
        turns[:, 2, 2] = 1
        return turns

    def corners(self) -> np.ndarray:
        """(n, 8, 3), the four of the bottom first, each counter-clockwise seen from above."""
        local = _CORNERS * self.size[:, None] / 2
        return np.einsum("nij,nkj->nki", self.rotations(), local) + self.centre[:, None]

    def points_inside(self, points: np.ndarray) -> np.ndarray:
        """How many of ``points`` (m, 3) each cuboid holds, (n,) int64."""
        counts = np.zeros(len(self), np.int64)
        x, y = np.ascontiguousarray(points[:, 0]), np.ascontiguousarray(points[:, 1])
        for i, (centre, size, turn) in enumerate(zip(self.centre, self.size, self.rotations(), strict=True)):
            reach = np.hypot(size[0], size[1]) / 2 + 1e-6
            near = points[(np.abs(x - centre[0]) <= reach) & (np.abs(y - centre[1]) <= reach)]
            counts[i] = np.count_nonzero((np.abs((near - centre) @ turn) <= size / 2).all(axis=1))
        return counts


def pose(translation: np.ndarray, yaw: float, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """The pose of a body turned by roll, then pitch, then yaw about its fixed parent's axes."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("ZYX", [yaw, pitch, roll]).as_matrix()
    matrix[:3, 3] = translation
    return matrix


def quaternion(rotation: np.ndarray) -> list[float]:
    """(3, 3) -> w, x, y, z with w >= 0."""
    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    sign = -1.0 if w < 0 else 1.0
    return [float(sign * value) for value in (w, x, y, z)]


def inverse(matrix: np.ndarray) -> np.ndarray:
    """The inverse of a pose."""
    result = np.eye(4)
    result[:3, :3] = matrix[:3, :3].T
    result[:3, 3] = -matrix[:3, :3].T @ matrix[:3, 3]
    return result


def transform(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(..., 3) points of frame b -> frame a."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def enter(origin: np.ndarray, directions: np.ndarray, size: np.ndarray) -> np.ndarray:
    """How far along ``directions`` (..., 3) from ``origin`` a ray enters a cuboid about its own frame's origin.

    Args:
        origin, size: (3,), or (..., 3) for cuboids in turn.

    Returns:
        (...) multiples of the direction's length; infinity where the ray misses or starts inside.
    Source: the slab method, Kay and Kajiya 1986.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = (-size / 2 - origin) / directions, (size / 2 - origin) / directions
    near, far = np.fmin(first, second).max(axis=-1), np.fmax(first, second).min(axis=-1)
    return np.where((near <= far) & (near > 0), near, np.inf)
