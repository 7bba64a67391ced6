"""Multi-scale deformable attention as a module, with the parameter names of the field's checkpoints."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from racdino.ops.ms_deform_attn import ms_deform_attn_fused
from racdino.ops.serving import has_hooks


class MSDeformAttn(nn.Module):
    """Each query attends to a few learned points around its reference, on every level of a feature pyramid.

    Args:
        d_model: width of queries and features.
        n_levels: levels of the pyramid.
        n_heads: attention heads; divides ``d_model``.
        n_points: points per head and level.
        ratio: width of the values relative to ``d_model``; ViT-Adapter halves it to save memory traffic.

    Source: Deformable DETR, Zhu et al. 2021, arXiv:2010.04159, section 4.1; ``ratio``: ViT-Adapter, Chen et al. 2023,
    arXiv:2205.08534.
    """

    def __init__(
        self, d_model: int = 256, n_levels: int = 4, n_heads: int = 8, n_points: int = 4, ratio: float = 1.0
    ) -> None:
        super().__init__()
        value_width = int(d_model * ratio)
        if d_model % n_heads or value_width % n_heads:
            raise ValueError(
                f"MSDeformAttn: d_model {d_model} (values {value_width} with ratio {ratio}) does not split into "
                f"{n_heads} heads; choose multiples of n_heads."
            )
        self.d_model = d_model
        self.n_levels = n_levels
        self.n_heads = n_heads
        self.n_points = n_points
        self.ratio = ratio
        self.im2col_step = 64  # kept for code that sets it; the operator takes any batch
        self.sampling_offsets = nn.Linear(d_model, n_heads * n_levels * n_points * 2)
        self.attention_weights = nn.Linear(d_model, n_heads * n_levels * n_points)
        self.value_proj = nn.Linear(d_model, value_width)
        self.output_proj = nn.Linear(value_width, d_model)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with head h looking in direction 2*pi*h/M, its point p at p+1 pixels, all with the same weight."""
        angle = torch.arange(self.n_heads, dtype=torch.float32) * (2.0 * math.pi / self.n_heads)
        direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
        direction = direction / direction.abs().max(dim=-1, keepdim=True).values  # onto the square of side 2
        distance = torch.arange(1, self.n_points + 1, dtype=torch.float32)
        offsets = direction[:, None, None, :] * distance[None, None, :, None]  # (M, 1, P, 2)
        with torch.no_grad():
            nn.init.zeros_(self.sampling_offsets.weight)
            self.sampling_offsets.bias.copy_(offsets.expand(-1, self.n_levels, -1, -1).reshape(-1))
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(
        self,
        query: Tensor,
        reference_points: Tensor,
        input_flatten: Tensor,
        input_spatial_shapes: Tensor,
        input_level_start_index: Tensor,
        input_padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Attend from ``query`` to ``input_flatten``.

        Args:
            query: (B, Q, d_model).
            reference_points: (B, Q, L, 2) as (x, y) in [0, 1], or (B, Q, L, 4) boxes as (x, y, w, h), whose size then
                scales the offsets; L may be 1 and is broadcast.
            input_flatten: (B, S, d_model) features, level after level.
            input_spatial_shapes: (L, 2) int64, (H, W) of each level.
            input_level_start_index: (L,) int64.
            input_padding_mask: (B, S) bool, True where a pixel is padding and reads zero.

        Returns:
            (B, Q, d_model).

        Raises:
            ValueError: ``reference_points`` does not end in 2 or 4.
            RuntimeError: shapes do not fit each other.
        """
        if reference_points.shape[-1] not in (2, 4):
            raise ValueError(
                f"MSDeformAttn: reference_points has shape {tuple(reference_points.shape)}, "
                "expected (B, Q, L, 2) points or (B, Q, L, 4) boxes."
            )
        B, Q, _ = query.shape
        S = input_flatten.shape[1]
        M, L, P = self.n_heads, self.n_levels, self.n_points
        value = self.value_proj(input_flatten)
        if input_padding_mask is not None:
            value = value.masked_fill(input_padding_mask[..., None], 0.0)
        offsets, logits = self._offsets_and_logits(query)
        return self.output_proj(
            ms_deform_attn_fused(
                value.view(B, S, M, -1),
                input_spatial_shapes,
                input_level_start_index,
                reference_points,
                offsets.view(B, Q, M, L, P, 2),
                logits.view(B, Q, M, L, P),
            )
        )

    def _offsets_and_logits(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """(B, Q, 2*M*L*P) and (B, Q, M*L*P) of the two narrow layers, as one product: both would read all of the query.

        Layers that someone has put in their places, or listens to, are called as they are.
        """
        offsets, logits = self.sampling_offsets, self.attention_weights
        if not (_is_plain(offsets) and _is_plain(logits)):
            return offsets(query), logits(query)
        weight, bias = torch.cat([offsets.weight, logits.weight]), torch.cat([offsets.bias, logits.bias])
        of_offsets, of_logits = F.linear(query, weight, bias).split([len(offsets.weight), len(logits.weight)], dim=-1)
        return of_offsets, of_logits


def _is_plain(layer: nn.Module) -> bool:
    return type(layer) is nn.Linear and layer.bias is not None and not has_hooks(layer)
