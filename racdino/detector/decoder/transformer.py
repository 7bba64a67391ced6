"""The decoder: one layer applied again and again, each time to boxes that the last time moved."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from racdino.detector.decoder.coordinates import Coordinates
from racdino.detector.decoder.decoder_layer import RaCFormerDecoderLayer, Scene, age_of_previous
from racdino.detector.decoder.joined_linear import JoinedLinear
from racdino.detector.decoder.keyed_dropout import KeyedDropout
from racdino.detector.registry import register


@register("RaCFormerTransformer")
class RaCFormerTransformer(nn.Module):
    """RaCFormer's decoder.

    Args:
        embed_dims: width of queries and maps.
        num_frames: T, the current frame and its past ones.
        num_levels: feature maps per image.
        num_layers: iterations; they share one set of weights.
        num_points, num_points_bev: points per group and place along the ray, in images and in BEV.
        img_depth_num, bev_depth_num: places along the ray.
        num_ray: rays of queries; an iteration turns a box by at most one ray's width.
        num_classes, code_size: numbers out of the two branches; ``code_size`` is 10.
        pc_range: x, y, z low, then high, in metres; see `Coordinates`.
        d_region_list: per iteration, half of the stretch of the ray that is sampled, in units of d.
        num_heads, num_groups: heads of self attention, groups of channels in sampling and mixing.
        bev_shape: (y, x) cells of both BEV maps.
        with_cp: compute the activations of mixing and temporal encoder again in the backward pass, to save memory.
        plain_view_sampling: see `ViewSampling`.
        legacy_bev_batch_mixing: see `BEVSampling`. legacy_temporal_order: see `RadarTemporalEncoder`.

    Raises:
        ValueError: the numbers do not fit each other.

    Source: RaCFormer, Chu et al. 2025, arXiv:2412.12725.
    """

    def __init__(
        self,
        embed_dims: int,
        num_frames: int = 8,
        num_levels: int = 4,
        num_layers: int = 6,
        num_points: int = 4,
        num_points_bev: int = 4,
        img_depth_num: int = 3,
        bev_depth_num: int = 5,
        num_ray: int = 150,
        num_classes: int = 10,
        code_size: int = 10,
        pc_range: Sequence[float] = (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0),
        d_region_list: Sequence[float] = (0.08, 0.07, 0.06, 0.05, 0.04, 0.03),
        num_heads: int = 8,
        num_groups: int = 4,
        bev_shape: tuple[int, int] = (128, 128),
        with_cp: bool = True,
        plain_view_sampling: bool = False,
        legacy_bev_batch_mixing: bool = False,
        legacy_temporal_order: bool = False,
    ) -> None:
        super().__init__()
        if len(d_region_list) != num_layers:
            raise ValueError(f"d_region_list has {len(d_region_list)} numbers for {num_layers} decoder layers.")
        if embed_dims % num_groups or embed_dims % 4:
            raise ValueError(f"embed_dims {embed_dims} must divide by 4 and by num_groups {num_groups}.")
        if code_size != 10:
            raise ValueError(f"code_size is {code_size}; a query box has 10 numbers.")
        self.embed_dims = embed_dims
        self.num_frames = num_frames
        self.num_levels = num_levels
        self.num_classes = num_classes
        self.num_ray = num_ray
        self.d_region_list = tuple(d_region_list)
        self.coordinates = Coordinates.of(pc_range)
        layer = RaCFormerDecoderLayer(
            embed_dims,
            num_heads,
            num_groups,
            num_frames,
            num_levels,
            num_points,
            num_points_bev,
            img_depth_num,
            bev_depth_num,
            num_ray,
            num_classes,
            code_size,
            tuple(bev_shape),  # type: ignore[arg-type]
            self.coordinates,
            with_cp,
            plain_view_sampling,
            legacy_bev_batch_mixing,
            legacy_temporal_order,
        )
        # The published checkpoints' name: decoder.decoder_layer
        self.decoder = nn.ModuleDict({"decoder_layer": layer})

    def forward(
        self,
        box: Tensor,
        query: Tensor,
        features: Sequence[Tensor],
        lss_bev: Tensor,
        radar_bev: Tensor,
        lidar2img: Tensor,
        img_timestamp: Tensor,
        image_size: tuple[int, int],
        hidden: Tensor | None,
        dropout: KeyedDropout,
    ) -> tuple[Tensor, Tensor]:
        """Refine query boxes.

        Args:
            box: (B, Q, 10) query boxes. query: (B, Q, C).
            features: per level (B, T * N, C, H, W).
            lss_bev, radar_bev: (B, T, C, y, x).
            lidar2img: (B, T * N, 4, 4) from the current LiDAR frame to pixels. image_size: their (height, width).
            img_timestamp: (B, T * N) seconds.
            hidden, dropout: see `Scene`.

        Returns:
            logits (layers, B, Q, classes) and box codes (layers, B, Q, 10). Nothing hides a NaN or an infinity.
        """
        self._check(features, lidar2img)
        layer = self.decoder["decoder_layer"]
        time_diff = ages(img_timestamp, self.num_frames).to(query.dtype)
        scene = Scene(
            JoinedLinear(layer.linears()),
            layer.sampling.views(features, lidar2img, image_size),
            self._radar_values(radar_bev),
            layer.sampling_lss_bev.values(lss_bev),
            time_diff,
            age_of_previous(time_diff),
            hidden,
            dropout,
        )
        logits, boxes = [], []
        for index, region in enumerate(self.d_region_list):
            query, scores, box = layer(box, query, scene, region, index)
            logits.append(scores)
            boxes.append(box)
            box = box.detach()
        return torch.stack(logits), self.coordinates.code_from_query(torch.stack(boxes))

    def _check(self, features: Sequence[Tensor], lidar2img: Tensor) -> None:
        images = lidar2img.shape[1]
        if len(features) != self.num_levels:
            raise ValueError(f"The decoder was made for {self.num_levels} feature levels and got {len(features)}.")
        if images % self.num_frames:
            raise ValueError(f"{images} images do not divide into the decoder's {self.num_frames} frames.")

    def _radar_values(self, radar_bev: Tensor) -> Tensor:
        branch = self.decoder["decoder_layer"].sampling_radar_bev

        def compute(bev: Tensor) -> Tensor:
            return branch.values(branch.temporal_encoder(bev))

        if self.decoder["decoder_layer"].with_cp and self.training and torch.is_grad_enabled():
            return checkpoint(compute, radar_bev, use_reentrant=False, preserve_rng_state=False)
        return compute(radar_bev)


def ages(img_timestamp: Tensor, num_frames: int) -> Tensor:
    """(B, T * N) float64 seconds to (B, T) seconds by which each frame is older than frame 0, mean over the cameras."""
    times = img_timestamp.double().unflatten(1, (num_frames, -1))
    return (times[:, :1] - times).mean(-1)
