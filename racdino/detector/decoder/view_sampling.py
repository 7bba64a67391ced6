"""Adaptive ray sampling: each query's points are looked up in the images that show them, in every frame.

Source: RaCFormer, arXiv:2412.12725, section 3.2; SparseBEV, arXiv:2308.09244, section 3.3. The views of a frame
are stacked into one tall map with a row of zeros after each, so that one 2D look-up serves all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor, nn

from racdino.detector.constants import constant
from racdino.detector.decoder.coordinates import Coordinates
from racdino.detector.decoder.joined_linear import Numbers
from racdino.detector.decoder.ray_points import Boxes, RayPoints
from racdino.detector.decoder.tall_maps import tall_maps
from racdino.ops import ms_deform_attn, ms_deform_attn_reference

NEAR = 1e-5  # metres in front of the camera from which on a point counts as visible


class Views(NamedTuple):
    """The images of a forward pass, made once for all layers.

    values: (B * T, S, G, C / G), level after level; a level is a map of N * (H + 1) rows: view n's row r is row
    n * (H + 1) + r. shapes: (levels, 2) int64, rows and columns of the maps. starts: (levels,) where each begins in S.
    lidar2img: (B, T, N, 4, 4). image_size: (height, width) in pixels of ``lidar2img``.
    """

    values: Tensor
    shapes: Tensor
    starts: Tensor
    lidar2img: Tensor
    image_size: tuple[int, int]


class ViewSampling(RayPoints):
    """The image branch's samples.

    Args:
        num_frames: T. num_levels: feature maps per image. The others: see `RayPoints`.
        plain_view_sampling: look up in plain torch instead of by our operator; slower, the same result.
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
        plain_view_sampling: bool = False,
    ) -> None:
        super().__init__(embed_dims, 3, depth_num, num_groups, num_points, coordinates)
        self.num_frames = num_frames
        self.num_levels = num_levels
        self.plain_view_sampling = plain_view_sampling
        points = num_groups * num_frames * depth_num * num_points
        self.scale_weights = nn.Linear(embed_dims, points * num_levels)

    def views(self, features: Sequence[Tensor], lidar2img: Tensor, image_size: tuple[int, int]) -> Views:
        """Features per level (B, T * N, C, H, W) and lidar2img (B, T * N, 4, 4), made ready for `forward`.

        16-bit features become float32 on the way. They are best in channels-last memory.
        """
        T, G = self.num_frames, self.num_groups
        levels = [level.permute(0, 1, 3, 4, 2).unflatten(1, (T, -1)).flatten(0, 1) for level in features]
        shapes = [(N * (H + 1), W) for _, N, H, W, _ in (level.shape for level in levels)]
        starts = [0, *accumulate(rows * W for rows, W in shapes[:-1])]
        return Views(
            tall_maps(levels).unflatten(2, (G, -1)),
            constant(tuple(shapes), torch.int64, lidar2img.device),
            constant(tuple(starts), torch.int64, lidar2img.device),
            lidar2img.unflatten(1, (T, -1)),
            image_size,
        )

    def linears(self) -> list[nn.Linear]:
        return [*super().linears(), self.scale_weights]

    def forward(self, boxes: Boxes, numbers: Numbers, views: Views, region: float) -> Tensor:
        """(B, Q, G, T * D * P, C / G) samples; see `RayPoints.points` for the arguments."""
        B, Q, _ = boxes.box.shape
        T, G = views.lidar2img.shape[1], self.num_groups
        K = self.depth_num * self.num_points
        weights = numbers[self.scale_weights].view(B, Q, G, T, K, self.num_levels).softmax(-1)
        look_up = ms_deform_attn_reference if self.plain_view_sampling else ms_deform_attn
        samples = look_up(
            views.values,
            views.shapes,
            views.starts,
            self.locations(boxes, numbers, views, region).view(B * T, Q * K, G, self.num_levels, 1, 2),
            weights.permute(0, 3, 1, 4, 2, 5).reshape(B * T, Q * K, G, self.num_levels, 1),
        )
        return samples.view(B, T, Q, K, G, -1).permute(0, 2, 4, 1, 3, 5).reshape(B, Q, G, T * K, -1)

    def locations(self, boxes: Boxes, numbers: Numbers, views: Views, region: float) -> Tensor:
        """(B, T, Q, D * P, G, levels, 2) in [0, 1] of each level's map."""
        if boxes.box.is_cuda and not self.plain_view_sampling:
            return self._located(boxes, numbers, region, views.lidar2img, views.shapes, image_size=views.image_size)
        xy, z = self.points(boxes, numbers, region, groups_last=True)  # (B, T, Q, D, P, G, 2), (B, Q, D, P, G)
        assert z is not None
        points = torch.cat([xy, z[:, None, ..., None].expand(*xy.shape[:-1], 1)], dim=-1).flatten(3, 4)
        place, view = first_valid_view(points.flatten(2, 4), views.lidar2img, views.image_size)
        return map_locations(views, place, view).view(*points.shape[:-1], -1, 2)


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
    size = constant((image_size[1], image_size[0]), points.dtype, points.device)
    with torch.no_grad():  # which view it is has no gradient; the place in that view alone is computed with one
        projected = torch.matmul(rows[..., :3], points.transpose(2, 3)[:, :, None]) + rows[..., 3:]  # (B, T, N, 3, K)
        place, depth = projected.split([2, 1], dim=3)
        place = place / (depth.clamp(min=NEAR) * size[:, None])
        visible = (depth > NEAR).squeeze(3) & ((place > 0) & (place < 1)).all(-2)
        view = visible.to(torch.uint8).argmax(2)  # the first of the largest
        chosen = rows.flatten(3).gather(2, view[..., None].expand(-1, -1, -1, 12)).unflatten(3, (3, 4))
    place, depth = ((chosen[..., :3] * points[..., None, :]).sum(-1) + chosen[..., 3]).split([2, 1], dim=-1)
    return place / (depth.clamp(min=NEAR) * size), view


def map_locations(views: Views, place: Tensor, view: Tensor) -> Tensor:
    """Places in views as places in the maps that hold the views stacked; what is outside its view reads zero there.

    Args:
        place: (..., 2) x, y in [0, 1]: 0 is the centre of the first pixel, 1 that of the last (align_corners=True).
        view: (...) int64.

    Returns:
        (..., levels, 2) in [0, 1] of each level's map (align_corners=False), as `ms_deform_attn` takes them.
    """
    rows, columns = views.shapes.to(place.dtype).unbind(1)  # (levels,)
    height = rows / views.lidar2img.shape[2]  # with the row of zeros
    last = torch.stack([columns - 1, height - 2], dim=-1)  # (levels, 2): x, y of the last pixel
    # One pixel outside reads zero already; going further would read the view above or below.
    pixel = torch.clamp(place[..., None, :] * last, last.new_full((), -1.0), last + 1)
    first = torch.stack([torch.zeros_like(height), height], dim=-1)  # of the next view
    pixel = pixel + (view[..., None, None] * first + 0.5)
    return pixel / torch.stack([columns, rows], dim=-1)
