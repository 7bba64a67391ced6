"""BEV sampling: each query looks into a bird's-eye-view map of every frame, through deformable attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from racdino.detector.constants import constant
from racdino.detector.decoder.coordinates import Coordinates
from racdino.detector.decoder.joined_linear import Numbers
from racdino.detector.decoder.keyed_dropout import KeyedDropout
from racdino.detector.decoder.ray_points import Boxes, RayPoints
from racdino.ops import ms_deform_attn


class BEVSampling(RayPoints):
    """A BEV branch: ray points on the ground, deformable attention per frame, frames summed by weight; plus residual.

    Args:
        num_frames: T.
        bev_shape: (y, x) cells, for the learned positions of rows and columns.
        dropout: share of the branch's output dropped in training.
        legacy_bev_batch_mixing: pair maps and points as upstream does: maps batch-major, points frame-major. With more
            than one sample in a batch, samples then look into each other's maps. The same for a batch of one.

    Source: RaCFormer, arXiv:2412.12725, section 3.2; BEVFormer, Li et al. 2022, arXiv:2203.17270, section 3.4.
    """

    def __init__(
        self,
        embed_dims: int,
        depth_num: int,
        num_groups: int,
        num_points: int,
        num_frames: int,
        bev_shape: tuple[int, int],
        coordinates: Coordinates,
        dropout: float = 0.1,
        legacy_bev_batch_mixing: bool = False,
    ) -> None:
        super().__init__(embed_dims, 2, depth_num, num_groups, num_points, coordinates)
        self.dropout = dropout
        self.legacy_bev_batch_mixing = legacy_bev_batch_mixing
        self.scale_weights = nn.Linear(embed_dims, num_groups * depth_num * num_points)
        self.positional_encoding = LearnedPosition(embed_dims, bev_shape)
        self.attention = _Projections(embed_dims, num_frames)

    def values(self, bev: Tensor) -> Tensor:
        """(B, T, C, H, W) maps to (B, T, H, W, C) values; the same for all layers, which share their weights."""
        position = self.positional_encoding(bev.shape[-2:])
        return self.attention.value_proj((bev + position).permute(0, 1, 3, 4, 2))

    def linears(self) -> list[nn.Linear]:
        return [*super().linears(), self.scale_weights, self.attention.bev_queue_weight]

    def forward(
        self,
        boxes: Boxes,
        query: Tensor,
        numbers: Numbers,
        values: Tensor,
        region: float,
        dropout: KeyedDropout,
        place: str,
        layer: int,
    ) -> Tensor:
        """(B, Q, C) queries to (B, Q, C); see `RayPoints.points` and `KeyedDropout` for the arguments."""
        B, Q, C = query.shape
        grid = self.places(boxes, numbers, region)
        T, G, K = grid.shape[1], *grid.shape[3:5]
        weights = numbers[self.scale_weights].view(B, 1, Q, G, K).softmax(-1)
        if self.legacy_bev_batch_mixing:
            grid = grid.transpose(0, 1).reshape(grid.shape)
            weights = weights.expand(-1, T, -1, -1, -1).transpose(0, 1).reshape(B, T, Q, G, K)
        # Frames are summed by weight, too: into the points' weights with it.
        frames = numbers[self.attention.bev_queue_weight].softmax(-1).transpose(1, 2).contiguous()  # (B, T, Q)
        weights = weights * frames[..., None, None]
        H, W = values.shape[2:4]
        sampled = ms_deform_attn(
            values.view(B * T, H * W, G, C // G),
            constant(((H, W),), torch.int64, values.device),
            constant((0,), torch.int64, values.device),
            grid.reshape(B * T, Q, G, 1, K, 2),
            weights.reshape(B * T, Q, G, 1, K),
        )
        fused = sampled.view(B, T, Q, C).sum(1)
        return query + dropout.channels(self.attention.output_proj(fused), self.dropout, place, layer)

    def places(self, boxes: Boxes, numbers: Numbers, region: float) -> Tensor:
        """(B, T, Q, G, D * P, 2) x, y in [0, 1] of the range."""
        if boxes.box.is_cuda:
            return self._located(boxes, numbers, region)
        xy, _ = self.points(boxes, numbers, region, groups_last=False)
        return self.coordinates.grid_from_metres(xy).flatten(4, 5)


class LearnedPosition(nn.Module):
    """A learned vector per column (first half of the channels) and per row (second half)."""

    def __init__(self, embed_dims: int, bev_shape: tuple[int, int]) -> None:
        super().__init__()
        self.row_embed = nn.Embedding(bev_shape[0], embed_dims // 2)
        self.col_embed = nn.Embedding(bev_shape[1], embed_dims // 2)
        nn.init.uniform_(self.row_embed.weight)
        nn.init.uniform_(self.col_embed.weight)

    def forward(self, shape: tuple[int, int]) -> Tensor:
        """(C, H, W) for maps of shape (H, W).

        Raises:
            ValueError: this was made for maps of another shape.
        """
        expected = (self.row_embed.num_embeddings, self.col_embed.num_embeddings)
        if tuple(shape) != expected:
            raise ValueError(
                f"A BEV map has {tuple(shape)} cells (y, x), but the decoder was made for {expected}; "
                "set the transformer's bev_shape to the map's."
            )
        columns = self.col_embed.weight.t()[:, None, :].expand(-1, shape[0], -1)
        rows = self.row_embed.weight.t()[:, :, None].expand(-1, -1, shape[1])
        return torch.cat([columns, rows])


class _Projections(nn.Module):
    def __init__(self, embed_dims: int, num_frames: int) -> None:
        super().__init__()
        self.bev_queue_weight = nn.Linear(embed_dims, num_frames)
        self.value_proj = nn.Linear(embed_dims, embed_dims)
        self.output_proj = nn.Linear(embed_dims, embed_dims)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)
