"""Where a query looks: points around its box, moved back in time, spread along the ray from the car.

Source: RaCFormer, arXiv:2412.12725, section 3.2 (ray samples); SparseBEV, arXiv:2308.09244, section 3.3 (motion).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from racdino.detector.constants import constant
from racdino.detector.decoder.coordinates import Coordinates
from racdino.detector.decoder.joined_linear import Numbers
from racdino.ops import Ray, ray_locations

_AT_THE_CAR = 1e-12  # metres; nearer than this a point has no direction, and +x is taken


class Boxes(NamedTuple):
    """The query boxes of a layer, (B, Q, 10), and by how many seconds each frame is older than the current, (B, T)."""

    box: Tensor
    ages: Tensor

    def placed(self, coordinates: Coordinates) -> PlacedBoxes:
        box = self.box
        centre = torch.view_as_complex(coordinates.metres_from_polar(box[..., :2]))
        velocity = torch.view_as_complex(box[..., 8:10].detach().contiguous())
        yaw = torch.atan2(box[..., 6], box[..., 7])  # sine and cosine need not have norm 1
        return PlacedBoxes(
            centre[:, None] - velocity[:, None] * self.ages[:, :, None],
            torch.complex(yaw.cos(), yaw.sin()),
            box[..., 3:6].exp(),
            coordinates.metres_from_z(box[..., 2]),
        )


class PlacedBoxes(NamedTuple):
    """What the points around boxes are computed from.

    places: (B, T, Q) complex, centres as x + iy in metres, where the box was in each frame by its own velocity.
    turn: (B, Q) complex, exp(i yaw). size: (B, Q, 3) metres. z: (B, Q) metres.
    """

    places: Tensor
    turn: Tensor
    size: Tensor
    z: Tensor


class RayPoints(nn.Module):
    """The base of the three sampling branches: makes their points.

    Args:
        embed_dims: width of the queries.
        dimensions: 3 for points in space, 2 for points on the ground.
        depth_num: D, places along the ray.
        num_groups: G, groups of channels that look at places of their own.
        num_points: P, points per group and place along the ray.
    """

    def __init__(
        self,
        embed_dims: int,
        dimensions: int,
        depth_num: int,
        num_groups: int,
        num_points: int,
        coordinates: Coordinates,
    ) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.depth_num = depth_num
        self.num_groups = num_groups
        self.num_points = num_points
        self.coordinates = coordinates
        self.sampling_offset = nn.Linear(embed_dims, depth_num * num_groups * num_points * dimensions)
        self.ray_points_offset = nn.Linear(embed_dims, depth_num)
        nn.init.zeros_(self.sampling_offset.weight)
        nn.init.uniform_(self.sampling_offset.bias, -0.5, 0.5)

    def linears(self) -> list[nn.Linear]:
        """The layers that are asked what to make of a query."""
        return [self.sampling_offset, self.ray_points_offset]

    def numbers(self, query: Tensor) -> Numbers:
        """(B, Q, C) through each of these layers."""
        return {layer: layer(query) for layer in self.linears()}

    def points(self, boxes: Boxes, numbers: Numbers, region: float, groups_last: bool) -> tuple[Tensor, Tensor | None]:
        """The points of every query in every frame.

        Args:
            numbers: of the queries, see `numbers`.
            region: half of the stretch of the ray that is covered, in units of d.
            groups_last: the order wanted of depth, group and point: (D, P, G), or else (G, D, P).

        Returns:
            (B, T, Q, *order, 2) x, y in metres, inside the range, and (B, Q, *order) heights in metres, or None in two
            dimensions.
        """
        order = (0, 1, 2, 4, 3) if groups_last else (0, 1, 3, 2, 4)
        placed = boxes.placed(self.coordinates)
        # In units of the box. The order is made here, where frames have not multiplied the numbers yet.
        offset = self._offsets(numbers).permute(*order, 5).contiguous()
        offset = offset * placed.size[..., None, None, None, : self.dimensions]
        around = torch.view_as_complex(offset[..., :2].contiguous()) * placed.turn[..., None, None, None]
        xy = torch.view_as_real(placed.places[..., None, None, None] + around[:, None])
        xy = self._moved_along_ray(xy, self._along_ray(numbers, region)[..., None, None].permute(order))
        if self.dimensions == 2:
            return xy, None
        return xy, placed.z[..., None, None, None] + offset[..., 2]

    def _offsets(self, numbers: Numbers) -> Tensor:
        """(B, Q, D, G, P, dimensions) in units of the box."""
        return numbers[self.sampling_offset].unflatten(
            -1, (self.depth_num, self.num_groups, self.num_points, self.dimensions)
        )

    def _located(
        self, boxes: Boxes, numbers: Numbers, region: float, *views: Tensor, image_size: Sequence[int] = ()
    ) -> Tensor:
        """What becomes of `points` where the operator samples, by `ray_locations`, in which ``views`` are described."""
        ray = Ray(self.coordinates.pc_range, self.coordinates.radius, region, image_size)
        return ray_locations(self._offsets(numbers), numbers[self.ray_points_offset], *boxes, ray, *views)

    def _moved_along_ray(self, xy: Tensor, along: Tensor) -> Tensor:
        """(B, T, Q, ...) metres moved away from the car by (B, Q, ...) units of d, and into the range.

        The same as changing d of the polar coordinates, without an angle: a point at the distance r is multiplied by
        1 + along / r.
        """
        distance = torch.linalg.vector_norm(xy, dim=-1, keepdim=True)
        direction = constant((_AT_THE_CAR, 0.0), xy.dtype, xy.device)
        xy = torch.where(distance < _AT_THE_CAR, direction, xy)
        distance = distance.clamp(min=_AT_THE_CAR)
        return self.coordinates.within(xy * (1 + (along * self.coordinates.radius)[:, None, ..., None] / distance))

    def _along_ray(self, numbers: Numbers, region: float) -> Tensor:
        """(B, Q, D) by how much d changes: evenly spread, each moved by at most half a step of region / D."""
        steps = numbers[self.ray_points_offset]
        even = torch.linspace(-region, region, self.depth_num, dtype=steps.dtype, device=steps.device)
        return even + (2 * steps.sigmoid() - 1) * (region / self.depth_num / 2)
