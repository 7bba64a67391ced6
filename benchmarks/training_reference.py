"""The plain structure of RaCFormer's description, as a peer: what `racdino.detector` computes, part by part.

Same parameters, same numbers up to rounding. Differs in: view sampling by five-dimensional grid_sample, one call per
level; the temporal encoder and the projections of the BEV maps in every decoder layer; pooling by adding up stored
products; the assignment waited for in every layer.
"""

from __future__ import annotations

from types import MethodType
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from racdino.detector import view_transformer
from racdino.detector.decoder.view_sampling import Views, ViewSampling, first_valid_view


def make_plain(model: nn.Module) -> nn.Module:
    """``model`` (a RaCFormer) itself, computing in the plain way from now on."""
    transformer = model.pts_bbox_head.transformer
    layer = transformer.decoder["decoder_layer"]
    layer.sampling.views = MethodType(_views, layer.sampling)
    layer.sampling.forward = MethodType(_sample, layer.sampling)
    transformer._radar_values = lambda bev: bev
    _projected_in_each_layer(layer.sampling_radar_bev, layer.sampling_radar_bev.temporal_encoder)
    _projected_in_each_layer(layer.sampling_lss_bev, nn.Identity())
    lss = model.img_lss_view_transformer.forward

    def lss_with_plain_pooling(*arguments: Any) -> Any:
        with mock.patch.object(view_transformer, "bev_pool", _pool):
            return lss(*arguments)

    model.img_lss_view_transformer.forward = lss_with_plain_pooling
    return model


def _projected_in_each_layer(branch: Any, encoder: nn.Module) -> None:
    values, forward = branch.values, branch.forward
    branch.values = lambda bev: bev

    def encode_and_look(box: Tensor, query: Tensor, bev: Tensor, *others: Any) -> Tensor:
        return forward(box, query, values(encoder(bev)), *others)

    branch.forward = encode_and_look


def _views(self: ViewSampling, features: Any, lidar2img: Tensor, image_size: tuple[int, int]) -> Any:
    """The levels as (B * T * G, C / G, N, H, W), in a Views whose ``values`` is their list."""
    T, G = self.num_frames, self.num_groups
    levels = []
    for level in features:
        B, images, C, H, W = level.shape
        level = level.view(B, T, images // T, G, C // G, H, W).permute(0, 1, 3, 4, 2, 5, 6)
        levels.append(level.reshape(B * T * G, C // G, images // T, H, W))
    none = torch.zeros(0)
    return Views(levels, none, none, lidar2img.unflatten(1, (T, -1)), image_size)  # type: ignore[arg-type]


def _sample(self: ViewSampling, box: Tensor, query: Tensor, views: Any, time_diff: Tensor, region: float) -> Tensor:
    B, Q, _ = box.shape
    grid, z = self.points(box, query, time_diff, region)
    assert z is not None
    T, G, K = grid.shape[2:5]
    xy = self.coordinates.metres_from_grid(grid)
    points = torch.cat([xy, z[:, :, None, ..., None].expand(*xy.shape[:-1], 1)], dim=-1)
    points = points.permute(0, 2, 1, 4, 3, 5).reshape(B, T, -1, 3)
    place, view = first_valid_view(points, views.lidar2img, views.image_size)
    num_views = views.lidar2img.shape[2]
    weights = self.scale_weights(query).view(B, Q, G, T, K, self.num_levels).softmax(-1)
    weights = weights.permute(5, 0, 3, 2, 1, 4).reshape(self.num_levels, B * T * G, 1, Q, K, 1)
    place = torch.cat([place, (view / (num_views - 1))[..., None]], -1) * 2 - 1
    place = place.view(B, T, Q, K, G, 3).permute(0, 1, 4, 2, 3, 5).reshape(B * T * G, Q, K, 1, 3)
    sampled = sum(
        F.grid_sample(level, place, align_corners=True) * weight
        for level, weight in zip(views.values, weights, strict=True)
    )  # (B * T * G, C / G, Q, K, 1)
    return sampled.view(B, T, G, -1, Q, K).permute(0, 4, 2, 1, 5, 3).reshape(B, Q, G, T * K, -1)


def _pool(depth: Tensor, features: Tensor, cells: Tensor, num_cells: int) -> Tensor:
    products = (depth[..., None] * features[:, None]).flatten(0, 1)
    inside = cells.flatten() < num_cells
    return products.new_zeros(num_cells, features.shape[1]).index_add(0, cells.flatten()[inside], products[inside])
