"""Lift image features to 3D by a depth distribution that has seen the radar, and splat them onto a BEV grid.

Sources: Philion & Fidler 2020, arXiv:2008.05711 (LSS); Li et al. 2023, arXiv:2206.10092 (BEVDepth); RaCFormer,
arXiv:2412.12725, for the radar input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from racdino.detector.bev_pool import Ranks, bev_pool
from racdino.detector.constants import constant
from racdino.detector.depth_bins import (
    DepthBins,
    largest_of_block,
    nearest_of_block,
    one_hot_map,
    rcs_one_hot,
    softmax_focal_loss,
)
from racdino.detector.depth_net import DepthNet
from racdino.detector.randomness import SampleRandom
from racdino.detector.reduction import normaliser
from racdino.detector.registry import register

_RCS_CHANNELS = 32


class Geometry(NamedTuple):
    """projections: (S*N, 9), each camera's inverse projection, its upper left 3x3. ranks: of the hypotheses' cells."""

    projections: Tensor
    ranks: Ranks


@register("LSSViewTransformerBEVDepth_racformer")
class LSSViewTransformer(nn.Module):
    """Image features of N cameras to one BEV map.

    Args:
        grid_config: x, y, z as [low, high, cell] in metres, ``depth`` as [near, far, bins], ``rcs`` as [low, high,
            bins] in dBsm. z has one cell.
        input_size: (H, W) of the padded images. downsample: their size over the features'.
        in_channels, out_channels: of the features and of the BEV map. depthnet_cfg: the depth net's keys.
        loss_depth_weight: of the depth loss; training schedules set it.
        legacy_rcs_background: count pixels without radar as 0 dBsm, as the released weights were trained.
    """

    frustum: Tensor

    def __init__(
        self,
        grid_config: Mapping[str, Sequence[float]],
        input_size: Sequence[int],
        in_channels: int,
        out_channels: int,
        depthnet_cfg: Mapping[str, Any] | None = None,
        downsample: int = 16,
        loss_depth_weight: float = 1.0,
        legacy_rcs_background: bool = False,
    ) -> None:
        super().__init__()
        self.grid = [tuple(map(float, grid_config[axis])) for axis in "xyz"]
        self.cells = [round((high - low) / cell) for low, high, cell in self.grid]
        if self.cells[2] != 1:
            raise ValueError(f"grid_config has {self.cells[2]} cells in z, {grid_config['z']}; the BEV map has one.")
        self.bins = DepthBins(*grid_config["depth"])
        self.rcs_bounds = tuple(grid_config["rcs"])
        self.input_size = (int(input_size[0]), int(input_size[1]))
        self.downsample = downsample
        self.out_channels = out_channels
        self.loss_depth_weight = loss_depth_weight
        self.legacy_rcs_background = legacy_rcs_background
        self.register_buffer("frustum", self._frustum())
        self.depth_net = DepthNet(
            in_channels, out_channels, self.bins.count, self.bins.count + 1 + _RCS_CHANNELS, depthnet_cfg or {}
        )
        self.rcs_embedding = nn.Conv2d(int(self.rcs_bounds[2]), _RCS_CHANNELS, 1)

    def _frustum(self) -> Tensor:
        """(D, h, w, 3): u and v in pixels, depth in metres of each feature's depth hypotheses."""
        height, width = self.input_size
        if height % self.downsample or width % self.downsample:
            raise ValueError(f"input_size {height}x{width} is no multiple of downsample={self.downsample}.")
        h, w = height // self.downsample, width // self.downsample
        v, u = torch.meshgrid(torch.linspace(0, height - 1, h), torch.linspace(0, width - 1, w), indexing="ij")
        depth = self.bins.values()[:, None, None].expand(-1, h, w)
        return torch.stack([u.expand_as(depth), v.expand_as(depth), depth], -1)

    def geometry(self, lidar2img: Tensor) -> Geometry:
        """Where the features of (S, N, 4, 4) cameras land. Waits for the device, so it is made before the images."""
        img2lidar = lidar2img.double().inverse().float()
        return Geometry(img2lidar[..., :3, :3].flatten(0, 1).flatten(1), Ranks.of(*self.cells_of(img2lidar)))

    def forward(
        self,
        features: Tensor,
        geometry: Geometry,
        radar_depth: Tensor,
        radar_rcs: Tensor,
        random: SampleRandom | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One BEV map per scene (a sample's frame), in the LiDAR frame that ``lidar2img`` started from.

        Args:
            features: (S, N, C, h, w). geometry: of their cameras. radar_depth, radar_rcs: (S, N, H, W) metres
                (0 = none) and dBsm. random: for the dropout of training, keyed by scene.
        Returns:
            (S, out_channels, Y, X), and depth logits (S*N, D, h, w).
        """
        if features.shape[-2:] != self.frustum.shape[1:3]:
            h, w = features.shape[-2:]
            raise ValueError(
                f"Image features of {h}x{w} do not fit the view transformer's input_size {self.input_size} / "
                f"{self.downsample}; set input_size to the size of the padded images."
            )
        logits, context = self.depth_net(
            features.flatten(0, 1),
            self.radar_input(radar_depth.flatten(0, 1), radar_rcs.flatten(0, 1)),
            geometry.projections,
            random,
        )
        pooled = bev_pool(
            logits.float().softmax(1).permute(0, 2, 3, 1).reshape(-1, self.bins.count),
            context.float().permute(0, 2, 3, 1).flatten(0, 2),
            geometry.ranks,
        )
        scenes, (columns, rows, _) = len(features), self.cells
        return pooled.view(scenes, rows, columns, -1).permute(0, 3, 1, 2).contiguous(), logits

    def radar_input(self, depth: Tensor, rcs: Tensor) -> Tensor:
        """(K, H, W) metres (0 = none) and dBsm to the depth net's (K, D + 1 + 32, h, w)."""
        if self.legacy_rcs_background:
            coarse_rcs = largest_of_block(rcs, self.downsample)
            measured = torch.ones_like(coarse_rcs, dtype=torch.bool)
        else:
            coarse_rcs = largest_of_block(torch.where(depth > 0, rcs, -torch.inf), self.downsample)
            measured = coarse_rcs.isfinite()
        classes = self.bins.classes(nearest_of_block(depth, self.downsample))
        embedded = self.rcs_embedding(rcs_one_hot(coarse_rcs, measured, self.rcs_bounds))
        return torch.cat([one_hot_map(classes, self.bins.count + 1), embedded], 1)

    def points(self, img2lidar: Tensor) -> Tensor:
        """(..., 4, 4) pixel-to-LiDAR to (..., D, h, w, 3) metres of the depth hypotheses."""
        uv, depth = self.frustum[..., :2], self.frustum[..., 2:]
        scaled = torch.cat([uv * depth, depth], -1)
        return (
            torch.einsum("...ij,dhwj->...dhwi", img2lidar[..., :3, :3], scaled)
            + (img2lidar[..., None, None, None, :3, 3])
        )

    def cells_of(self, img2lidar: Tensor) -> tuple[Tensor, int]:
        """(S, N, 4, 4) to bev_pool's cells (S*N*h*w, D), each scene with its own Y*X cells, and their number."""
        columns, rows, _ = self.cells
        points = self.points(img2lidar)
        low, size, count = (
            constant(tuple(numbers), points.dtype, points.device)
            for numbers in ([axis[0] for axis in self.grid], [axis[2] for axis in self.grid], self.cells)
        )
        index = ((points - low) / size).floor()
        inside = ((index >= 0) & (index < count)).all(-1)
        x, y, _ = torch.where(inside[..., None], index, 0).long().unbind(-1)
        scene = torch.arange(len(img2lidar), device=x.device).view(-1, 1, 1, 1, 1)
        num_cells = len(img2lidar) * rows * columns
        cells = torch.where(inside, (scene * rows + y) * columns + x, num_cells)
        return cells.permute(0, 1, 3, 4, 2).reshape(-1, self.bins.count), num_cells

    def depth_loss(self, logits: Tensor, gt_depth: Tensor) -> Tensor:
        """Focal loss of (K, D, h, w) logits where (..., H, W) LiDAR depth (K images, 0 = unknown) falls into a bin."""
        labels = self.bins.classes(nearest_of_block(gt_depth.flatten(0, -3), self.downsample)).flatten()
        known = labels < self.bins.count
        predicted = logits.float().permute(0, 2, 3, 1).flatten(0, 2)
        losses = softmax_focal_loss(predicted, torch.where(known, labels, 0))
        losses = torch.where(known, losses, 0)
        return self.loss_depth_weight * losses.sum() / normaliser(known.sum(), losses)
