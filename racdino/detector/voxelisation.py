"""Group radar points into pillars, always in the same way.

Source: Lang et al. 2019, arXiv:1812.05784 (PointPillars).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Pillars(NamedTuple):
    """V pillars of at most P points.

    points: (V, P, F), zeros after the last point. counts: (V,) int64 points in each.
    coordinates: (V, 4) int64: cloud, z, y, x of its cell.
    """

    points: Tensor
    counts: Tensor
    coordinates: Tensor


class Voxelisation(nn.Module):
    """Points to pillars: per cell the first ``max_num_points``, per cloud the cells that come first.

    Args:
        voxel_size: x, y, z in metres. point_cloud_range: low x, y, z, high x, y, z in metres; the rest is left out.
        max_num_points: per pillar. max_voxels: pillars per cloud in training and in testing.
        deterministic: accepted as configs write it; the result is the same in every run either way.
    """

    def __init__(
        self,
        voxel_size: Sequence[float],
        point_cloud_range: Sequence[float],
        max_num_points: int,
        max_voxels: int | Sequence[int] = 20000,
        deterministic: bool = True,
    ) -> None:
        super().__init__()
        self.size, self.low = tuple(voxel_size), tuple(point_cloud_range[:3])
        highs = zip(point_cloud_range[3:], self.low, self.size, strict=True)
        self.grid = tuple(round((high - low) / size) for high, low, size in highs)
        self.max_num_points = max_num_points
        both = (max_voxels, max_voxels) if isinstance(max_voxels, int) else max_voxels
        self.max_voxels_training, self.max_voxels_testing = int(both[0]), int(both[1])

    @torch.no_grad()
    def forward(self, clouds: Sequence[Tensor]) -> Pillars:
        """Clouds of (n, F) points, x, y, z first; n may be 0."""
        points = torch.cat(list(clouds))
        lengths = torch.tensor([len(cloud) for cloud in clouds], device=points.device)
        cloud = torch.arange(len(clouds), device=points.device).repeat_interleave(lengths)
        cell = ((points[:, :3] - points.new_tensor(self.low)) / points.new_tensor(self.size)).floor()
        inside = ((cell >= 0) & (cell < cell.new_tensor(self.grid))).all(1)
        points, cloud, (x, y, z) = points[inside], cloud[inside], cell[inside].long().unbind(1)
        nx, ny, nz = self.grid
        keys, pillar = (((cloud * nz + z) * ny + y) * nx + x).unique(return_inverse=True)

        # Pillars in the order of their first point, which is also cloud by cloud.
        number = torch.arange(len(points), device=points.device)
        first = torch.full_like(keys, len(points)).scatter_reduce(0, pillar, number, "amin")
        rank = torch.empty_like(first)
        rank[first.argsort()] = torch.arange(len(first), device=points.device)
        pillar = rank[pillar]
        first = first.sort().values
        coordinates = torch.stack([cloud, z, y, x], 1)[first]
        keep = _position(coordinates[:, 0]) < (self.max_voxels_training if self.training else self.max_voxels_testing)

        order = pillar.argsort(stable=True)
        position = torch.empty_like(pillar)
        position[order] = _position(pillar[order])
        chosen = position < self.max_num_points
        grouped = points.new_zeros(len(first), self.max_num_points, points.shape[1])
        grouped[pillar[chosen], position[chosen]] = points[chosen]
        counts = torch.bincount(pillar, minlength=len(first)).clamp(max=self.max_num_points)
        return Pillars(grouped[keep], counts[keep], coordinates[keep])


def _position(groups: Tensor) -> Tensor:
    """Of each entry of ascending numbers: how many equal ones come before it."""
    groups = groups.contiguous()
    number = torch.arange(len(groups), device=groups.device)
    return number - torch.searchsorted(groups, groups)
