"""A pinhole camera on the ego car's roof."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

CAMERA_HEIGHT = 1.55
NEAR = 0.3


@dataclass(frozen=True)
class Camera:
    """``yaw`` in degrees to the left of forward; ``focal`` in image widths."""

    yaw: float
    focal: float
    width: int
    height: int

    @cached_property
    def position(self) -> np.ndarray:
        forward = self._axes[2]
        return np.array([0.0, 0.0, CAMERA_HEIGHT]) + 0.6 * forward

    @cached_property
    def _axes(self) -> np.ndarray:
        """Rows: the camera's right, down and forward in the ego frame."""
        a = np.radians(self.yaw)
        return np.array([[np.sin(a), -np.cos(a), 0], [0, 0, -1], [np.cos(a), np.sin(a), 0]])

    @cached_property
    def _centre(self) -> np.ndarray:
        return np.array([self.width / 2, self.height * 0.54])

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """(n, 3) ego -> (n, 3) right, down, forward."""
        return (points - self.position) @ self._axes.T

    def project(self, points: np.ndarray) -> np.ndarray:
        """(n, 3) right, down, forward with forward > 0 -> (n, 2) pixels."""
        return points[:, :2] / points[:, 2:] * self.focal * self.width + self._centre

    def rays(self) -> np.ndarray:
        """(height, width, 3): the unit direction of every pixel in the ego frame."""
        u, v = np.meshgrid(np.arange(self.width) + 0.5, np.arange(self.height) + 0.5)
        directions = np.stack([u, v], -1) - self._centre
        directions = np.concatenate([directions / (self.focal * self.width), np.ones_like(u)[..., None]], -1)
        directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
        return (directions @ self._axes).astype(np.float32)

    def polygon(self, points: np.ndarray) -> np.ndarray | None:
        """Corners of an ego-frame polygon in pixels, cut at the near plane; None when it lies behind the camera."""
        corners = self.to_camera(points)
        kept = []
        for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            if a[2] >= NEAR:
                kept.append(a)
            if (a[2] >= NEAR) != (b[2] >= NEAR):
                kept.append(a + (b - a) * (NEAR - a[2]) / (b[2] - a[2]))
        return self.project(np.array(kept)) if len(kept) >= 3 else None
