"""Resize, crop and flip of images, and rotation and scale of the scene, as matrices that projections take up."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


def sample_key(seed: int, epoch: int, index: int) -> int:
    """The number that decides every random draw of one sample in one epoch, below 2**63."""
    digest = hashlib.blake2b(f"{seed}/{epoch}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@dataclass(frozen=True)
class ImageTransform:
    """An image of ``source`` (height, width) resized to ``resized``, its part from ``top``, ``left`` of ``size`` kept.

    What of that part lies outside the resized image is black. ``flip`` mirrors the kept part left to right.
    """

    source: tuple[int, int]
    resized: tuple[int, int]
    top: int
    left: int
    size: tuple[int, int]
    flip: bool

    @property
    def scale(self) -> float:
        """The larger of the two axes' ratios, which differ by the rounding to whole pixels."""
        return max(new / old for new, old in zip(self.resized, self.source, strict=True))

    def matrix(self) -> np.ndarray:
        """(4, 4) that takes (u*d, v*d, d, 1) of the source to the same of the result.

        Pixel coordinates count from the image's left and upper edge, so a mirrored u is width - u.
        """
        matrix = np.eye(4)
        matrix[0, 0] = self.resized[1] / self.source[1]
        matrix[1, 1] = self.resized[0] / self.source[0]
        matrix[:2, 2] = -self.left, -self.top
        if self.flip:
            matrix = np.diag([-1.0, 1, 1, 1]) @ matrix
            matrix[0, 2] += self.size[1]
        return matrix


def image_transform(conf: Mapping[str, Any], random: np.random.Generator | None) -> ImageTransform:
    """Draw a transform from an ``ida_aug_conf``, or, without a generator, the one that tests use.

    Tests resize until the result covers ``final_dim`` and keep the bottom centre.

    Raises:
        ValueError: ``rot_lim`` asks for rotated images, which RaCFormer's config never does.
    """
    if any(conf.get("rot_lim", ())):
        raise ValueError(f"ida_aug_conf has rot_lim={conf['rot_lim']}: images are not rotated here, set it to (0, 0).")
    source, size = (conf["H"], conf["W"]), tuple(conf["final_dim"])
    if random is None:
        factor = max(size[0] / source[0], size[1] / source[1])
        bottom = float(np.mean(conf["bot_pct_lim"]))
        sideways, flip = 0.5, False
    else:
        factor = random.uniform(*conf["resize_lim"])
        bottom = random.uniform(*conf["bot_pct_lim"])
        sideways = random.uniform()
        flip = bool(conf["rand_flip"] and random.integers(2))
    resized = (int(source[0] * factor), int(source[1] * factor))
    if random is None:  # a whole number in exact arithmetic is one here, too
        resized = (max(resized[0], size[0]), max(resized[1], size[1]))
    top = int((1 - bottom) * resized[0]) - size[0]
    left = int(sideways * max(0, resized[1] - size[1]))
    return ImageTransform(source, resized, top, left, (size[0], size[1]), flip)


@dataclass(frozen=True)
class SceneTransform:
    """The scene turned counter-clockwise about the LiDAR's z axis by ``angle`` radians, then scaled."""

    angle: float
    scale: float

    @classmethod
    def draw(
        cls, rot_range: Sequence[float], scale_range: Sequence[float], random: np.random.Generator
    ) -> SceneTransform:
        return cls(random.uniform(rot_range[0], rot_range[1]), random.uniform(scale_range[0], scale_range[1]))

    def rotation(self) -> np.ndarray:
        """(2, 2), counter-clockwise."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return np.array([[cos, -sin], [sin, cos]])

    def matrix(self) -> np.ndarray:
        """(4, 4) from the scene as it was to the scene as it becomes."""
        matrix = np.diag([self.scale, self.scale, self.scale, 1.0])
        matrix[:2, :2] = self.scale * self.rotation()
        return matrix

    def points(self, points: np.ndarray) -> np.ndarray:
        """(n, 3 or more) with x, y, z transformed; the other columns as they were."""
        moved = points.copy()
        moved[:, :2] = points[:, :2] @ (self.scale * self.rotation()).T
        moved[:, 2] *= self.scale
        return moved

    def radar(self, points: np.ndarray, legacy_radar_velocity: bool = False) -> np.ndarray:
        """Radar points as in ``radar.accumulate``; velocities follow unless ``legacy_radar_velocity``."""
        moved = self.points(points)
        if not legacy_radar_velocity:
            moved[:, 4:6] = points[:, 4:6] @ (self.scale * self.rotation()).T
        return moved
