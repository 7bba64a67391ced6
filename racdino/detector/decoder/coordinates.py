"""Polar query boxes, Cartesian box codes and box rows, and the way from each to the other.

Three ten- or nine-number descriptions of a box, all in the LiDAR frame (x right, y forward, z up):

* box row: x, y, z of the bottom's centre, dx along the heading, dy, dz in metres, yaw, vx, vy. What data sets hold.
* box code: x, y, log dx, log dy, z of the centre, log dz, sin yaw, cos yaw, vx, vy. What losses compare.
* query box: theta, d, z, log dx, log dy, log dz, sin yaw, cos yaw, vx, vy. What the decoder refines; theta is the
  azimuth in turns, counter-clockwise from +x, d the distance over `Coordinates.radius`, z in [0, 1] of the range.

Source: RaCFormer, arXiv:2412.12725, section 3.2 (queries in polar coordinates).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from racdino.detector.constants import constant

# d = 1 is 65 m for the published range of 51.2 m: as far as the depth bins of the view transformer reach.
RADIUS_OF_RANGE = 65.0 / 51.2


@dataclass(frozen=True)
class Coordinates:
    """The box around the car that is looked at: x, y, z low, then x, y, z high, in metres."""

    pc_range: tuple[float, float, float, float, float, float]

    @classmethod
    def of(cls, pc_range: Sequence[float]) -> Coordinates:
        """Checked: six numbers, each low below its high, and the car inside.

        Raises:
            ValueError: one of these does not hold.
        """
        numbers = tuple(float(number) for number in pc_range)
        if len(numbers) != 6 or not all(low < 0 < high for low, high in zip(numbers[:3], numbers[3:], strict=True)):
            raise ValueError(f"pc_range is {numbers}; it must be x, y, z low (below 0), then x, y, z high (above 0).")
        return cls(numbers)

    @property
    def radius(self) -> float:
        """The distance of d = 1, in metres."""
        x0, y0, _, x1, y1, _ = self.pc_range
        return RADIUS_OF_RANGE * max(-x0, -y0, x1, y1)

    @property
    def height(self) -> float:
        return self.pc_range[5] - self.pc_range[2]

    def _corners(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """x, y low and x, y high."""
        low, high = self.pc_range[:2], self.pc_range[3:5]
        return constant(low, like.dtype, like.device), constant(high, like.dtype, like.device)

    def grid_from_metres(self, xy: Tensor) -> Tensor:
        """(..., 2) metres to [0, 1] of the range; not clamped."""
        low, high = self._corners(xy)
        return (xy - low) / (high - low)

    def within(self, xy: Tensor) -> Tensor:
        """(..., 2) metres, what lies outside the range moved to its border along x, along y or both."""
        return torch.clamp(xy, *self._corners(xy))

    def metres_from_polar(self, polar: Tensor) -> Tensor:
        """(..., 2) theta in turns and d to x, y in metres, moved to the border of the range where outside."""
        theta, d = polar.unbind(-1)
        angle, distance = theta * (2 * math.pi), d * self.radius
        return self.within(torch.stack([distance * angle.cos(), distance * angle.sin()], dim=-1))

    def polar_from_metres(self, xy: Tensor) -> Tensor:
        """(..., 2) metres to theta in [0, 1) turns and d. At the origin theta is 0 and nothing has a gradient."""
        origin = (xy == 0).all(-1, keepdim=True)
        safe = torch.where(origin, constant((1.0, 0.0), xy.dtype, xy.device), xy)
        x, y = safe.unbind(-1)
        theta = torch.remainder(torch.atan2(y, x) / (2 * math.pi), 1.0)
        distance = safe.square().sum(-1).sqrt() / self.radius
        return torch.stack([theta, distance.masked_fill(origin[..., 0], 0)], dim=-1)

    def z_from_metres(self, z: Tensor) -> Tensor:
        return (z - self.pc_range[2]) / self.height

    def metres_from_z(self, z: Tensor) -> Tensor:
        return self.pc_range[2] + z * self.height

    def code_from_query(self, query: Tensor) -> Tensor:
        """(..., 10) query boxes to box codes."""
        xy = self.metres_from_polar(query[..., :2])
        z = self.metres_from_z(query[..., 2:3])
        return torch.cat([xy, query[..., 3:5], z, query[..., 5:]], dim=-1)

    def query_from_code(self, code: Tensor) -> Tensor:
        """(..., 10) box codes to query boxes."""
        polar = self.polar_from_metres(code[..., :2])
        z = self.z_from_metres(code[..., 4:5])
        return torch.cat([polar, z, code[..., 2:4], code[..., 5:]], dim=-1)


def code_from_boxes(boxes: Tensor) -> Tensor:
    """(..., 9) box rows to (..., 10) box codes. Unknown velocities (NaN) stay NaN."""
    x, y, bottom, dx, dy, dz, yaw, vx, vy = boxes.unbind(-1)
    return torch.stack([x, y, dx.log(), dy.log(), bottom + dz / 2, dz.log(), yaw.sin(), yaw.cos(), vx, vy], dim=-1)


def boxes_from_code(code: Tensor) -> Tensor:
    """(..., 10) box codes to (..., 9) box rows; yaw in (-pi, pi]."""
    x, y, log_dx, log_dy, z, log_dz, sin, cos, vx, vy = code.unbind(-1)
    dz = log_dz.exp()
    return torch.stack([x, y, z - dz / 2, log_dx.exp(), log_dy.exp(), dz, torch.atan2(sin, cos), vx, vy], dim=-1)
