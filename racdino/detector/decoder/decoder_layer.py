"""One step of the decoder: queries look at each other, at the images and at both BEV maps, then move their boxes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from racdino.detector.decoder.bev_sampling import BEVSampling
from racdino.detector.decoder.coordinates import Coordinates
from racdino.detector.decoder.joined_linear import JoinedLinear, Numbers
from racdino.detector.decoder.keyed_dropout import KeyedDropout
from racdino.detector.decoder.mixing import AdaptiveMixing
from racdino.detector.decoder.ray_points import Boxes
from racdino.detector.decoder.self_attention import ScaleAdaptiveSelfAttention
from racdino.detector.decoder.temporal_encoder import RadarTemporalEncoder
from racdino.detector.decoder.view_sampling import Views, ViewSampling

DROPOUT = 0.1
_SMALLEST_PROBABILITY = 1e-5


@dataclass
class Scene:
    """What all layers look at, made once per forward pass.

    time_diff: (B, T) seconds by which each frame is older than the current one. previous_age: see `age_of_previous`.
    hidden: (B or 1, Q, Q) bool, True where the query of the row must not see that of the column; None: all see all.
    """

    linears: JoinedLinear  # of the layer's `linears`
    views: Views
    radar_values: Tensor  # (B, T, H, W, C)
    lss_values: Tensor  # (B, T, H, W, C)
    time_diff: Tensor
    previous_age: Tensor
    hidden: Tensor | None
    dropout: KeyedDropout


class RaCFormerDecoderLayer(nn.Module):
    """The layer whose weights all iterations share. See `RaCFormerTransformer` for the arguments.

    Source: RaCFormer, arXiv:2412.12725, section 3.2 and figure 2.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        num_groups: int,
        num_frames: int,
        num_levels: int,
        num_points: int,
        num_points_bev: int,
        img_depth_num: int,
        bev_depth_num: int,
        num_ray: int,
        num_classes: int,
        code_size: int,
        bev_shape: tuple[int, int],
        coordinates: Coordinates,
        with_cp: bool,
        plain_view_sampling: bool,
        legacy_bev_batch_mixing: bool,
        legacy_temporal_order: bool,
    ) -> None:
        super().__init__()
        self.num_ray = num_ray
        self.coordinates = coordinates
        self.with_cp = with_cp
        C = embed_dims
        self.position_encoder = nn.Sequential(
            nn.Linear(3, C), nn.LayerNorm(C), nn.ReLU(), nn.Linear(C, C), nn.LayerNorm(C), nn.ReLU()
        )
        self.self_attn = ScaleAdaptiveSelfAttention(C, num_heads, DROPOUT, coordinates)
        self.sampling = ViewSampling(
            C, img_depth_num, num_groups, num_points, num_frames, num_levels, coordinates, plain_view_sampling
        )
        self.sampling_radar_bev, self.sampling_lss_bev = (
            BEVSampling(
                C,
                bev_depth_num,
                num_groups,
                num_points_bev,
                num_frames,
                bev_shape,
                coordinates,
                DROPOUT,
                legacy_bev_batch_mixing,
            )
            for _ in range(2)
        )
        self.sampling_radar_bev.temporal_encoder = RadarTemporalEncoder(C, legacy_temporal_order)
        self.mixing = AdaptiveMixing(C, num_frames * img_depth_num * num_points, num_groups)
        self.ffn = FeedForward(C, 2 * C, DROPOUT)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(C) for _ in range(3))
        self.fusion = nn.Linear(3 * C, C)
        nn.init.xavier_uniform_(self.fusion.weight)
        nn.init.zeros_(self.fusion.bias)
        self.norm_radar_bev, self.norm_lss_bev, self.norm_fusion = (nn.LayerNorm(C) for _ in range(3))
        self.cls_branch = nn.Sequential(
            *(layer for _ in range(2) for layer in (nn.Linear(C, C), nn.LayerNorm(C), nn.ReLU())),
            nn.Linear(C, num_classes),
        )
        nn.init.constant_(self.cls_branch[-1].bias, -math.log((1 - 0.01) / 0.01))  # every score starts at 0.01
        self.reg_branch = nn.Sequential(
            *(layer for _ in range(2) for layer in (nn.Linear(C, C), nn.ReLU())), nn.Linear(C, code_size)
        )

    def forward(
        self, box: Tensor, query: Tensor, scene: Scene, region: float, layer: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One iteration.

        Args:
            box: (B, Q, 10) query boxes, without gradient after the first iteration.
            query: (B, Q, C).
            region: half of the stretch of the ray that is sampled, in units of d.
            layer: the iteration's number.

        Returns:
            queries (B, Q, C), logits (B, Q, classes) and refined query boxes (B, Q, 10).
        """
        query = query + self.position_encoder(box[..., :3])
        query = self.norm1(self.self_attn(box, query, scene.hidden, scene.dropout, layer))
        boxes = Boxes(box, scene.time_diff)
        numbers = scene.linears(query)
        radar, lss = (
            branch(boxes, query, numbers, values, region, scene.dropout, place, layer)
            for branch, values, place in (
                (self.sampling_radar_bev, scene.radar_values, "radar_bev"),
                (self.sampling_lss_bev, scene.lss_values, "lss_bev"),
            )
        )
        image = self._saving_memory(self._look, boxes, query, numbers, scene, region)
        branches = [self.norm2(image), self.norm_radar_bev(radar), self.norm_lss_bev(lss)]
        query = self.norm_fusion(self.fusion(torch.cat(branches, dim=-1)))
        query = self.norm3(self.ffn(query, scene.dropout, layer))
        return query, self.cls_branch(query), self.refine(box, self.reg_branch(query), scene.previous_age)

    def linears(self) -> list[nn.Linear]:
        """What the three sampling branches ask of a query."""
        branches = (self.sampling, self.sampling_radar_bev, self.sampling_lss_bev)
        return [linear for branch in branches for linear in branch.linears()]

    def _look(self, boxes: Boxes, query: Tensor, numbers: Numbers, scene: Scene, region: float) -> Tensor:
        return self.mixing(self.sampling(boxes, numbers, scene.views, region), query)

    def _saving_memory(self, part: Callable[..., Tensor], *arguments: object) -> Tensor:
        """``part(*arguments)``; in training its activations are computed again when the gradient needs them.

        Of a layer that is worth it for the mixing, whose numbers per query are many; the rest keeps less.
        """
        if not (self.with_cp and self.training and torch.is_grad_enabled()):
            return part(*arguments)
        # Its random numbers are keyed by place, so there is no generator state to put back.
        return checkpoint(part, *arguments, use_reentrant=False, preserve_rng_state=False)

    def refine(self, box: Tensor, change: Tensor, previous_age: Tensor) -> Tensor:
        """Query boxes moved by what the regression branch says.

        theta moves by at most one ray's width, d and z in logit space; sizes, yaw and velocity are replaced. The branch
        speaks of the way since the previous frame; divided by its age that is the velocity.
        """
        theta = torch.add(box[..., :1], (change[..., :1] / 2).tanh(), alpha=1 / self.num_ray)  # 2 sigmoid(x) - 1
        d_z = (torch.logit(box[..., 1:3], eps=_SMALLEST_PROBABILITY) + change[..., 1:3]).sigmoid()
        return torch.cat([theta, d_z, change[..., 3:8], change[..., 8:] / previous_age], dim=-1)


def age_of_previous(time_diff: Tensor) -> Tensor:
    """(B, 1, 1) seconds since the previous frame out of (B, T) ages; 1 where there is none or it was repeated."""
    if time_diff.shape[1] == 1:
        return torch.ones_like(time_diff)[..., None]
    age = time_diff[:, 1:2, None]
    return torch.where(age < 1e-5, torch.ones_like(age), age)


class FeedForward(nn.Module):
    """Linear, ReLU, Linear, with dropout after both and the input added."""

    def __init__(self, channels: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.layers = nn.Sequential(nn.Sequential(nn.Linear(channels, hidden)), nn.Linear(hidden, channels))

    def forward(self, x: Tensor, dropout: KeyedDropout, layer: int) -> Tensor:
        """(B, Q, C) to (B, Q, C)."""
        hidden = dropout.channels(F.relu(self.layers[0](x)), self.dropout, "ffn.0", layer)
        return x + dropout.channels(self.layers[1](hidden), self.dropout, "ffn.1", layer)
