"""Where a query looks: points around its box, moved back in time, spread along the ray from the car.

Source: RaCFormer, arXiv:2412.12725, section 3.2 (ray samples); SparseBEV, arXiv:2308.09244, section 3.3 (motion).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from racdino.detector.decoder.coordinates import Coordinates


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

    def points(self, box: Tensor, query: Tensor, time_diff: Tensor, region: float) -> tuple[Tensor, Tensor | None]:
        """The points of every query in every frame.

        Args:
            box: (B, Q, 10) query boxes.
            query: (B, Q, C).
            time_diff: (B, T) seconds by which each frame is older than the current one.
            region: half of the stretch of the ray that is covered, in units of d.

        Returns:
            (B, Q, T, G, D * P, 2) x, y in [0, 1] of the range, and (B, Q, G, D * P) heights z in metres, or None in
            two dimensions.
        """
        B, Q, _ = box.shape
        D, G, P = self.depth_num, self.num_groups, self.num_points
        offset = self.sampling_offset(query).view(B, Q, D, G, P, self.dimensions)
        offset = offset * box[..., 3 : 3 + self.dimensions].exp()[:, :, None, None, None]  # in units of the box
        centre = self.coordinates.metres_from_polar(box[..., :2])[:, :, None, None, None]
        xy = centre + _rotated(offset[..., :2], box[..., 6:8])
        velocity = box[..., 8:10].detach()
        moved = velocity[:, :, None] * time_diff[:, None, :, None]  # (B, Q, T, 2)
        xy = xy[:, :, None] - moved[:, :, :, None, None, None]  # (B, Q, T, D, G, P, 2)
        theta, d = self.coordinates.polar_from_metres(xy).unbind(-1)
        along = self._along_ray(query, region)[:, :, None, :, None, None]
        grid = self.coordinates.grid_from_polar(torch.stack([theta, d + along], dim=-1)).transpose(3, 4).flatten(4, 5)
        if self.dimensions == 2:
            return grid, None
        z = self.coordinates.metres_from_z(box[..., 2])[:, :, None, None, None] + offset[..., 2]
        return grid, z.transpose(2, 3).flatten(3, 4)

    def _along_ray(self, query: Tensor, region: float) -> Tensor:
        """(B, Q, D) by how much d changes: evenly spread, each moved by at most half a step of region / D."""
        even = torch.linspace(-region, region, self.depth_num, dtype=query.dtype, device=query.device)
        return even + (2 * self.ray_points_offset(query).sigmoid() - 1) * (region / self.depth_num / 2)


def _rotated(offset: Tensor, sin_cos: Tensor) -> Tensor:
    """(B, Q, ..., 2) turned counter-clockwise by each query's yaw, whose sine and cosine need not have norm 1."""
    yaw = torch.atan2(sin_cos[..., 0], sin_cos[..., 1])[:, :, None, None, None]
    x, y = offset.unbind(-1)
    sin, cos = yaw.sin(), yaw.cos()
    return torch.stack([x * cos - y * sin, x * sin + y * cos], dim=-1)
