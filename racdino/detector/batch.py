"""What goes into the detector, and what comes out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Detections(NamedTuple):
    """The boxes found in one sample, in the LiDAR frame of its current moment.

    boxes: (n, 9) x, y, z of the bottom's centre, dx along the heading, dy, dz (metres), yaw (radians, counter-clockwise
        from +x), vx, vy (m/s). scores: (n,) in [0, 1]. labels: (n,) int64, an index into the config's classes.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


@dataclass
class Batch:
    """B samples of T frames (frame 0 is the current one, later ones are older) from N cameras.

    Images and maps are frame-major: index t*N + n. All coordinates are those of each sample's current LiDAR frame
    (x right, y forward, z up), whatever frame they belong to: ego motion is inside ``lidar2img``.
    """

    img: Tensor  # (B, T*N, 3, H, W) uint8 or float32, BGR 0..255, not normalised
    lidar2img: Tensor  # (B, T*N, 4, 4) float32: (x, y, z, 1) to (u*depth, v*depth, depth, 1) in pixels of ``img``
    img_timestamp: Tensor  # (B, T*N) float64 seconds
    radar_points: list[list[Tensor]]  # [b][t] (n, 7): x, y, z = 0, RCS in dBsm, vx, vy, time lag in seconds
    radar_depth: Tensor  # (B, T*N, H, W) metres, 0 = no radar
    radar_rcs: Tensor  # (B, T*N, H, W) dBsm, to be read where ``radar_depth`` is not 0
    gt_depth: Tensor | None = None  # (B, N, H, W) metres by LiDAR in the current images, 0 = unknown; training only
    gt_boxes: list[Tensor] | None = None  # [b] (n, 9) rows as in Detections
    gt_labels: list[Tensor] | None = None  # [b] (n,) int64
    sample_keys: tuple[int, ...] | None = None  # for SampleRandom; None: torch's global generator decides

    def __post_init__(self) -> None:
        images = tuple(self.img.shape[:2])
        size = tuple(self.img.shape[-2:])
        expected: dict[str, tuple[int, ...]] = {
            "lidar2img": (*images, 4, 4),
            "img_timestamp": images,
            "radar_depth": (*images, *size),
            "radar_rcs": (*images, *size),
        }
        for name, shape in expected.items():
            found = tuple(getattr(self, name).shape)
            if found != shape:
                raise ValueError(f"{name} is {found}, but img {tuple(self.img.shape)} needs {shape}.")
        frames = {len(points) for points in self.radar_points}
        if len(self.radar_points) != images[0] or len(frames) != 1:
            raise ValueError(
                f"radar_points must hold the same number of frames for each of {images[0]} samples, "
                f"found {[len(points) for points in self.radar_points]}."
            )
        if images[1] % self.num_frames:
            raise ValueError(f"{images[1]} images do not divide into {self.num_frames} frames.")
        if self.sample_keys is not None and len(self.sample_keys) != images[0]:
            raise ValueError(f"{len(self.sample_keys)} sample keys were given for {images[0]} samples.")

    @property
    def num_frames(self) -> int:
        return len(self.radar_points[0])

    @property
    def num_cameras(self) -> int:
        return self.img.shape[1] // self.num_frames

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """A copy whose tensors are on ``device``."""

        def move(value: Any) -> Any:
            if isinstance(value, Tensor):
                return value.to(device, non_blocking=non_blocking)
            if isinstance(value, Sequence):
                return type(value)(map(move, value))  # type: ignore[call-arg]
            return value

        return Batch(**{field.name: move(getattr(self, field.name)) for field in fields(self)})
