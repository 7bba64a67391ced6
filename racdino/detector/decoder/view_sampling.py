"""Adaptive ray sampling: each query's points are looked up in the images that show them, in every frame.

Source: RaCFormer, arXiv:2412.12725, section 3.2; SparseBEV, arXiv:2308.09244, section 3.3. Plain torch: the views of a
frame are stacked into one tall map with a row of zeros after each, so that one 2D look-up serves all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from racdino.detector.decoder.coordinates import Coordinates
from racdino.detector.decoder.ray_points import RayPoints

NEAR = 1e-5  # metres in front of the camera from which on a point counts as visible


class Views(NamedTuple):
    """The images of a forward pass, made once for all layers.

    maps: per level (B * T * G, C / G, N * (H + 1), W): view n's row r is row n * (H + 1) + r.
    lidar2img: (B, T, N, 4, 4). image_size: (height, width) in pixels of ``lidar2img``.
    """

    maps: list[Tensor]
    lidar2img: Tensor
    image_size: tuple[int, int]


class ViewSampling(RayPoints):
    """The image branch's samples.

    Args:
        num_frames: T. num_levels: feature maps per image. The others: see `RayPoints`.
    """

    def __init__(
        self,
        embed_dims: int,
        depth_num: int,
        num_groups: int,
        num_points: int,
        num_frames: int,
        num_levels: int,
        coordinates: Coordinates,
    ) -> None:
        super().__init__(embed_dims, 3, depth_num, num_groups, num_points, coordinates)
        self.num_frames = num_frames
        self.num_levels = num_levels
        points = num_groups * num_frames * depth_num * num_points
        self.scale_weights = nn.Linear(embed_dims, points * num_levels)

    def views(self, features: Sequence[Tensor], lidar2img: Tensor, image_size: tuple[int, int]) -> Views:
        """Features per level (B, T * N, C, H, W) and lidar2img (B, T * N, 4, 4), made ready for `forward`."""
        T, G = self.num_frames, self.num_groups
        maps = []
        for level in features:
            tall = F.pad(level, (0, 0, 0, 1))
            B, images, C, H, W = tall.shape
            tall = tall.view(B, T, images // T, G, C // G, H, W).permute(0, 1, 3, 4, 2, 5, 6)
            maps.append(tall.reshape(B * T * G, C // G, -1, W))
        return Views(maps, lidar2img.unflatten(1, (T, -1)), image_size)

    def forward(self, box: Tensor, query: Tensor, views: Views, time_diff: Tensor, region: float) -> Tensor:
        """(B, Q, G, T * D * P, C / G) samples; see `RayPoints.points` for the arguments."""
        B, Q, _ = box.shape
        grid, z = self.points(box, query, time_diff, region)  # (B, Q, T, G, K, 2), (B, Q, G, K)
        assert z is not None
        T, G, K = grid.shape[2:5]
        xy = self.coordinates.metres_from_grid(grid)
        points = torch.cat([xy, z[:, :, None, ..., None].expand(*xy.shape[:-1], 1)], dim=-1)
        points = points.permute(0, 2, 3, 1, 4, 5).reshape(B, T, -1, 3)  # (B, T, G * Q * K, 3)
        place, view = first_valid_view(points, views.lidar2img, views.image_size)
        weights = self.scale_weights(query).view(B, Q, G, T, K, self.num_levels).softmax(-1)
        weights = weights.permute(0, 3, 2, 1, 4, 5).reshape(B * T * G, Q * K, -1)
        samples = sample_views(
            views.maps, place.reshape(B * T * G, Q * K, 2), view.reshape(B * T * G, Q * K), weights, views.lidar2img.shape[2]
        )
        return samples.view(B, T, G, -1, Q, K).permute(0, 4, 2, 1, 5, 3).reshape(B, Q, G, T * K, -1)


def first_valid_view(points: Tensor, lidar2img: Tensor, image_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Where points appear in the first view that shows them.

    Args:
        points: (B, T, K, 3) metres.
        lidar2img: (B, T, N, 4, 4).
        image_size: (height, width) in pixels.

    Returns:
        (B, T, K, 2) pixel over image size, and (B, T, K) int64 views. A point that no view shows gets view 0 and
        its place there, which lies outside [0, 1] or behind the camera.
    """
    rows = lidar2img[..., :3, :]
    projected = torch.matmul(rows[..., :3], points.transpose(2, 3)[:, :, None]) + rows[..., 3:]  # (B, T, N, 3, K)
    depth = projected[..., 2, :]
    place = projected[..., :2, :] / depth.clamp(min=NEAR)[..., None, :]
    place = place / place.new_tensor(image_size[::-1])[:, None]
    visible = (depth > NEAR) & ((place > 0) & (place < 1)).all(-2)
    view = visible.to(torch.uint8).argmax(2)  # the first of the largest
    chosen = view[:, :, None, None].expand(-1, -1, -1, 2, -1)
    return place.gather(2, chosen).squeeze(2).transpose(2, 3), view


def sample_views(maps: Sequence[Tensor], place: Tensor, view: Tensor, weights: Tensor, num_views: int) -> Tensor:
    """Bilinear look-ups in one view each, summed over the levels by weight; zero outside the view.

    Args:
        maps: per level (M, C, N * (H + 1), W), as in `Views`.
        place: (M, K, 2) x, y in [0, 1]: 0 is the centre of the first pixel, 1 that of the last (align_corners=True).
        view: (M, K) int64.
        weights: (M, K, levels).

    Returns:
        (M, C, K).
    """
    total = None
    for level, tall in enumerate(maps):
        rows, W = tall.shape[2:]
        H = rows // num_views - 1
        # One pixel outside reads zero already; going further would read the view above or below.
        column = (place[..., 0] * (W - 1)).clamp(-1, W)
        row = (place[..., 1] * (H - 1)).clamp(-1, H) + view * (H + 1)
        grid = torch.stack([(2 * column + 1) / W - 1, (2 * row + 1) / rows - 1], dim=-1)
        found = F.grid_sample(tall, grid[:, :, None], padding_mode="zeros", align_corners=False).squeeze(-1)
        weighted = found * weights[:, None, :, level]
        total = weighted if total is None else total + weighted
    assert total is not None
    return total
