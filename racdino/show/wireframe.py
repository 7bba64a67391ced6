"""Boxes as line segments in an image, cut where they leave what the camera sees."""

from __future__ import annotations

import numpy as np

NEAR = 0.1  # metres; what is nearer, or behind, has no place in the image
# Corners: the four of the bottom counter-clockwise from the front left one, then those above them.
CORNERS = np.array([[x, y, z] for z in (0, 1) for x, y in ((0.5, 0.5), (-0.5, 0.5), (-0.5, -0.5), (0.5, -0.5))])
EDGES = np.array(
    [[i, (i + 1) % 4] for i in range(4)] + [[4 + i, 4 + (i + 1) % 4] for i in range(4)] + [[i, i + 4] for i in range(4)]
)
# A cross on the front face, so that a box's heading is seen.
FRONT = np.array([[0, 7], [3, 4]])


def corners(boxes: np.ndarray) -> np.ndarray:
    """(n, 8, 3) metres of rows (n, 7 or more): x, y, z of the bottom, size along heading, across, up, yaw."""
    local = CORNERS * boxes[:, None, 3:6]
    cos, sin = np.cos(boxes[:, 6:7]), np.sin(boxes[:, 6:7])
    x = local[..., 0] * cos - local[..., 1] * sin
    y = local[..., 0] * sin + local[..., 1] * cos
    return np.stack([x, y, local[..., 2]], -1) + boxes[:, None, :3]


def project(points: np.ndarray, lidar2img: np.ndarray) -> np.ndarray:
    """(..., 3) homogeneous pixels u*depth, v*depth, depth of points (..., 3) in the LiDAR frame; lidar2img (4, 4)."""
    return points @ lidar2img[:3, :3].T + lidar2img[:3, 3]


def clip(segments: np.ndarray, width: float, height: float, near: float = NEAR) -> tuple[np.ndarray, np.ndarray]:
    """Cut segments at the near plane and at the image's borders.

    Args:
        segments: (n, 2, 3) homogeneous pixels as `project` returns; their ends may be behind the camera.
    Returns:
        (m, 2, 2) pixels inside [0, width] x [0, height], and (m,) which segments they belong to.
    Source: parametric clipping against half-spaces, Liang and Barsky 1984, before the division by depth, where every
        border is a plane through the camera.
    """
    begin, step = segments[:, 0], segments[:, 1] - segments[:, 0]
    # Each column is >= 0 inside: in front of the near plane, right of the left border, ...
    planes = np.array([[0, 0, 1], [1, 0, 0], [-1, 0, width], [0, 1, 0], [0, -1, height]], np.float64).T
    value, slope = begin @ planes - [near, 0, 0, 0, 0], step @ planes
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = -value / slope
    enter = np.where(slope > 0, crossing, 0).max(1, initial=0)
    leave = np.where(slope < 0, crossing, 1).min(1, initial=1)
    kept = np.flatnonzero((enter < leave) & ~((slope == 0) & (value < 0)).any(1))
    ends = begin[kept, None] + np.stack([enter, leave], 1)[kept, :, None] * step[kept, None]
    return ends[..., :2] / ends[..., 2:], kept
