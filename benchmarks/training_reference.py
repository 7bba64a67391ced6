"""The plain structure of RaCFormer's description, as a peer: what `racdino.detector` computes, part by part.

Same parameters, same numbers up to rounding. Differs in: the image branch as `image_reference` has it; points along the
ray by angle and distance, and seen by every camera with gradient; view sampling by five-dimensional grid_sample, one
call per level; the temporal encoder and the projections of the BEV maps in every decoder layer; the queries' linear
layers one by one; pooling by adding up stored products; the assignment waited for in every layer. The deformable
attention's operator, dropout and the order of the parts are ours, so that a ratio says nothing of them.
"""

from __future__ import annotations

from types import MethodType
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from image_reference import make_plain_images
from torch import Tensor, nn

from racdino.detector import view_transformer
from racdino.detector.bev_pool import Ranks
from racdino.detector.decoder.bev_sampling import BEVSampling
from racdino.detector.decoder.decoder_layer import Scene
from racdino.detector.decoder.joined_linear import Numbers
from racdino.detector.decoder.ray_points import Boxes, RayPoints
from racdino.detector.decoder.view_sampling import NEAR, Views, ViewSampling
from racdino.detector.head import HeadOutput


def make_plain(model: nn.Module) -> nn.Module:
    """``model`` (a RaCFormer) itself, computing in the plain way from now on."""
    make_plain_images(model)
    transformer = model.pts_bbox_head.transformer
    layer = transformer.decoder["decoder_layer"]
    for branch in (layer.sampling, layer.sampling_radar_bev, layer.sampling_lss_bev):
        branch._moved_along_ray = MethodType(_moved_along_ray, branch)
    for branch in (layer.sampling_radar_bev, layer.sampling_lss_bev):
        branch.places = MethodType(_places, branch)
    layer.sampling.views = MethodType(_views, layer.sampling)
    layer.sampling.forward = MethodType(_sample, layer.sampling)
    transformer._radar_values = lambda bev: bev
    _projected_in_each_layer(layer.sampling_radar_bev, layer.sampling_radar_bev.temporal_encoder)
    _projected_in_each_layer(layer.sampling_lss_bev, nn.Identity())
    _linear_layers_apart(layer)
    _losses_layer_by_layer(model.pts_bbox_head)
    lss = model.img_lss_view_transformer.forward

    def lss_with_plain_pooling(*arguments: Any) -> Any:
        with mock.patch.object(view_transformer, "bev_pool", _pool):
            return lss(*arguments)

    model.img_lss_view_transformer.forward = lss_with_plain_pooling
    return model


def _projected_in_each_layer(branch: Any, encoder: nn.Module) -> None:
    values, forward = branch.values, branch.forward
    branch.values = lambda bev: bev

    def encode_and_look(boxes: Boxes, query: Tensor, numbers: Numbers, bev: Tensor, *others: Any) -> Tensor:
        return forward(boxes, query, numbers, values(encoder(bev)), *others)

    branch.forward = encode_and_look


def _linear_layers_apart(layer: Any) -> None:
    forward = layer.forward

    def apart(box: Tensor, query: Tensor, scene: Scene, *others: Any) -> Any:
        scene.linears = lambda x: {linear: linear(x) for linear in layer.linears()}  # type: ignore[assignment]
        return forward(box, query, scene, *others)

    layer.forward = apart


def _losses_layer_by_layer(head: Any) -> None:
    loss = head.loss

    def of_each_layer(output: HeadOutput, *targets: Any) -> dict[str, Tensor]:
        found, last = {}, len(output.logits) - 1
        for layer in range(last + 1):
            tensors = (output.logits, output.codes, output.denoising_logits, output.denoising_codes)
            parts = (None if tensor is None else tensor[layer : layer + 1] for tensor in tensors)
            for name, value in loss(HeadOutput(*parts, output.denoising), *targets).items():
                found[name if layer == last else f"d{layer}.{name}"] = value
        return found

    head.loss = of_each_layer


def _moved_along_ray(self: RayPoints, xy: Tensor, along: Tensor) -> Tensor:
    theta, d = self.coordinates.polar_from_metres(xy).unbind(-1)
    return self.coordinates.metres_from_polar(torch.stack([theta, d + along[:, None]], dim=-1))


def _places(self: BEVSampling, boxes: Boxes, numbers: Numbers, region: float) -> Tensor:
    xy, _ = self.points(boxes, numbers, region, groups_last=False)
    return self.coordinates.grid_from_metres(xy).flatten(4, 5)


def _views(self: ViewSampling, features: Any, lidar2img: Tensor, image_size: tuple[int, int]) -> Any:
    """The levels as (B * T * G, C / G, N, H, W), in a Views whose ``values`` is their list."""
    T, G = self.num_frames, self.num_groups
    levels = []
    for level in features:
        B, images, C, H, W = level.shape
        level = level.float().reshape(B, T, images // T, G, C // G, H, W).permute(0, 1, 3, 4, 2, 5, 6)
        levels.append(level.reshape(B * T * G, C // G, images // T, H, W))
    none = torch.zeros(0)
    return Views(levels, none, none, lidar2img.unflatten(1, (T, -1)), image_size)  # type: ignore[arg-type]


def _sample(self: ViewSampling, boxes: Boxes, numbers: Numbers, views: Any, region: float) -> Tensor:
    xy, z = self.points(boxes, numbers, region, groups_last=True)
    assert z is not None
    B, T, Q = xy.shape[:3]
    G, K = self.num_groups, self.depth_num * self.num_points
    points = torch.cat([xy, z[:, None, ..., None].expand(*xy.shape[:-1], 1)], dim=-1).view(B, T, -1, 3)
    place, view = _first_valid_view(points, views.lidar2img, views.image_size)
    num_views = views.lidar2img.shape[2]
    weights = numbers[self.scale_weights].view(B, Q, G, T, K, self.num_levels).softmax(-1)
    weights = weights.permute(5, 0, 3, 2, 1, 4).reshape(self.num_levels, B * T * G, 1, Q, K, 1)
    place = torch.cat([place, (view / (num_views - 1))[..., None]], -1) * 2 - 1
    place = place.view(B, T, Q, K, G, 3).permute(0, 1, 4, 2, 3, 5).reshape(B * T * G, Q, K, 1, 3)
    sampled = sum(
        F.grid_sample(level, place, align_corners=True) * weight
        for level, weight in zip(views.values, weights, strict=True)
    )  # (B * T * G, C / G, Q, K, 1)
    return sampled.view(B, T, G, -1, Q, K).permute(0, 4, 2, 1, 5, 3).reshape(B, Q, G, T * K, -1)


def _first_valid_view(points: Tensor, lidar2img: Tensor, image_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    rows = lidar2img[..., :3, :]
    projected = torch.matmul(rows[..., :3], points.transpose(2, 3)[:, :, None]) + rows[..., 3:]  # (B, T, N, 3, K)
    place, depth = projected.split([2, 1], dim=3)
    place = place / depth.clamp(min=NEAR) / place.new_tensor(image_size[::-1])[:, None]
    visible = (depth > NEAR).squeeze(3) & ((place > 0) & (place < 1)).all(-2)
    view = visible.to(torch.uint8).argmax(2)
    chosen = view[:, :, None, None].expand(-1, -1, -1, 2, -1)
    return place.gather(2, chosen).squeeze(2).transpose(2, 3), view


def _pool(depth: Tensor, features: Tensor, ranks: Ranks) -> Tensor:
    cells, num_cells = ranks.cells.flatten(), len(ranks.first) - 1
    products = (depth[..., None] * features[:, None]).flatten(0, 1)
    inside = cells < num_cells
    return products.new_zeros(num_cells, features.shape[1]).index_add(0, cells[inside], products[inside])
