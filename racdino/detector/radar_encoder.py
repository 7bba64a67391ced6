"""Radar points to a bird's-eye-view map: a small PointNet per pillar, written into the grid, and three convolutions.

Source: Lang et al. 2019, arXiv:1812.05784 (PointPillars).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from racdino.detector.constants import constant
from racdino.detector.conv_module import ConvModule, batch_norm_keys
from racdino.detector.registry import register
from racdino.detector.voxelisation import Pillars

_MMDET3D_RANGE = (0.0, -40.0, -3.0, 70.4, 40.0, 1.0)  # its default, KITTI's; upstream's weights have absorbed the shift


class PFNLayer(nn.Module):
    """Linear, batch norm and ReLU per point, then the pillar's maximum, beside which all but the last layer keep x."""

    def __init__(self, in_channels: int, out_channels: int, norm: Mapping[str, Any], last: bool) -> None:
        super().__init__()
        self.last = last
        units = out_channels if last else out_channels // 2
        self.norm = nn.BatchNorm1d(units, **norm)
        self.linear = nn.Linear(in_channels, units, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(V, P, C) to (V, 1, C') if last, else (V, P, C')."""
        x = F.relu(self.norm(self.linear(x).transpose(1, 2)).transpose(1, 2))
        largest = x.amax(1, keepdim=True)
        return largest if self.last else torch.cat([x, largest.expand_as(x)], 2)


@register("PillarFeatureNet")
class PillarFeatureNet(nn.Module):
    """Pillars to one vector each.

    Args:
        in_channels: of the points. feat_channels: of each layer's output.
        with_cluster_center, with_voxel_center: add the offsets (x, y, z) from the pillar's mean and from its centre.
        voxel_size: metres. point_cloud_range: where the grid starts. Left out it is mmdet3d's default, which shifts the
            centre offsets by a constant: the released weights were trained so.
        norm_cfg: batch norm's keys. legacy, with_distance, mode: only False, False and "max".
    """

    def __init__(
        self,
        in_channels: int = 4,
        feat_channels: Sequence[int] = (64,),
        with_distance: bool = False,
        with_cluster_center: bool = True,
        with_voxel_center: bool = True,
        voxel_size: Sequence[float] = (0.2, 0.2, 4),
        point_cloud_range: Sequence[float] = _MMDET3D_RANGE,
        norm_cfg: Mapping[str, Any] | None = None,
        mode: str = "max",
        legacy: bool = False,
    ) -> None:
        if legacy or with_distance or mode != "max":
            raise ValueError(
                f"PillarFeatureNet has legacy={legacy}, with_distance={with_distance}, mode={mode!r}; "
                "only False, False and 'max' are here."
            )
        super().__init__()
        self.with_cluster_center, self.with_voxel_center = with_cluster_center, with_voxel_center
        self.size = tuple(map(float, voxel_size))
        self.centre = tuple(size / 2 + low for size, low in zip(self.size, point_cloud_range, strict=False))
        norm = batch_norm_keys(norm_cfg or {"type": "BN1d", "eps": 1e-3, "momentum": 0.01})
        widths = [in_channels + 3 * with_cluster_center + 3 * with_voxel_center, *feat_channels]
        last = len(feat_channels) - 1
        self.pfn_layers = nn.ModuleList(
            PFNLayer(widths[index], widths[index + 1], norm, index == last) for index in range(len(feat_channels))
        )
        self.out_channels = widths[-1]

    def forward(self, pillars: Pillars) -> Tensor:
        """(V, P, F) points to (V, out_channels)."""
        points, counts, coordinates = pillars
        xyz = points[..., :3]
        features = [points]
        if self.with_cluster_center:
            features.append(xyz - xyz.sum(1, keepdim=True) / counts.clamp(min=1)[:, None, None].to(xyz.dtype))
        if self.with_voxel_center:
            cell = coordinates[:, 1:].flip(1).to(xyz.dtype)
            size, centre = (constant(numbers, xyz.dtype, xyz.device) for numbers in (self.size, self.centre))
            features.append(xyz - (cell * size + centre)[:, None])
        present = torch.arange(points.shape[1], device=points.device) < counts[:, None]
        x = torch.cat(features, 2) * present[..., None]
        for layer in self.pfn_layers:
            x = layer(x)
        return x.squeeze(1)


@register("PointPillarsScatter")
class PointPillarsScatter(nn.Module):
    """Pillar vectors to their cells of an empty map. ``output_shape`` is (Y, X)."""

    def __init__(self, in_channels: int, output_shape: Sequence[int]) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.rows, self.columns = map(int, output_shape)

    def forward(self, vectors: Tensor, coordinates: Tensor, clouds: int) -> Tensor:
        """(V, C) and (V, 4) of cloud, z, y, x to (clouds, C, Y, X)."""
        cloud, _, y, x = coordinates.unbind(1)
        flat = vectors.new_zeros(clouds * self.rows * self.columns, self.in_channels)
        flat = flat.index_put(((cloud * self.rows + y) * self.columns + x,), vectors)
        return flat.view(clouds, self.rows, self.columns, -1).permute(0, 3, 1, 2).contiguous()


def radar_bev_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    """The three convolutions after the scatter."""
    return nn.Sequential(
        ConvModule(in_channels, in_channels, 3, norm=True),
        ConvModule(in_channels, in_channels, 3, norm=True),
        ConvModule(in_channels, out_channels, 3, norm=True),
    )


def encode_radar(
    pillars: Pillars, clouds: int, encoder: PillarFeatureNet, scatter: PointPillarsScatter, convolutions: nn.Module
) -> Tensor:
    """The pillars of so many clouds, any of them empty, to (clouds, C, Y, X)."""
    if len(pillars.counts) == 0:
        # A pillar without points, whose vector goes nowhere: every parameter stays in the graph, as DDP requires.
        points, counts, coordinates = pillars
        empty = Pillars(
            points.new_zeros(1, *points.shape[1:]), counts.new_zeros(1), coordinates.new_zeros(1, coordinates.shape[1])
        )
        vectors = encoder(empty)
        canvas = scatter(vectors * 0, empty.coordinates, clouds)
    else:
        canvas = scatter(encoder(pillars), pillars.coordinates, clouds)
    return convolutions(canvas)
