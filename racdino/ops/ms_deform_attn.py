"""Multi-scale deformable attention as functions: the public faces of ``torch.ops.racdino``."""

from __future__ import annotations

import torch
from torch import Tensor


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int = 64,
) -> Tensor:
    """Sample each query's points from a feature pyramid and sum them by weight.

    Differentiable once in ``value``, ``sampling_locations`` and ``attention_weights``. Sums are kept in float32
    (float64 for float64), whatever the values are stored in. Bitwise reproducible on a CPU for any number of threads;
    on CUDA under ``torch.use_deterministic_algorithms(True)``.

    Args:
        value: (B, S, M, D) features; S is the sum of H*W over the L levels, M heads of D channels. float64, float32,
            float16 or bfloat16.
        spatial_shapes: (L, 2) int64, (H, W) of each level, on the device of ``value``.
        level_start_index: (L,) int64, the first pixel of each level in S.
        sampling_locations: (B, Q, M, L, P, 2) as (x, y) in [0, 1] of each level, the dtype of ``value`` or float32.
            Points outside read zero, as do infinite and NaN ones. Keep them in float32: bfloat16 is up to half a pixel
            off at W = 256.
        attention_weights: (B, Q, M, L, P), the dtype of ``value`` or float32; used as given, so softmax over L*P first.
        im2col_step: batch slab of the original implementation; must be positive, has no effect.

    Returns:
        (B, Q, M*D), same dtype as ``value``.

    Raises:
        RuntimeError: shapes, devices or dtypes do not fit; the message names the argument, what it is and what it
            should be.

    Source: Deformable DETR, Zhu et al. 2021, arXiv:2010.04159, eq. 3. Bilinear as grid_sample with align_corners=False
    and zero padding.
    """
    return torch.ops.racdino.ms_deform_attn_forward(
        value, spatial_shapes, level_start_index, sampling_locations, attention_weights, im2col_step
    )


def ms_deform_attn_fused(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    reference_points: Tensor,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
) -> Tensor:
    """`ms_deform_attn` from what a module's linear layers give: softmax and locations are computed on the way.

    On CUDA one kernel does all of it forward, so that neither locations nor weights are ever in memory; on a CPU the
    parts follow each other. Differentiable once in every floating-point argument.

    Args:
        value: (B, S, M, D) features, as in `ms_deform_attn`.
        spatial_shapes: (L, 2) int64, (H, W) of each level, on the device of ``value``.
        level_start_index: (L,) int64, the first pixel of each level in S.
        reference_points: (B, Q, L, 2) as (x, y) in [0, 1], or (B, Q, L, 4) boxes as (x, y, w, h); B, Q and L may be 1.
        sampling_offsets: (B, Q, M, L, P, 2): pixels of the level from a point; of a box, half its size times P.
        attention_logits: (B, Q, M, L, P) or (B, Q, M, L*P); softmax over the L*P samples gives their weights.

        The last three may be stored in float32, float16 or bfloat16 (float64 beside float64 values): they are widened
        before the first operation, so that no location is ever rounded to 16 bits.

    Returns:
        (B, Q, M*D), same dtype as ``value``.

    Raises:
        RuntimeError: shapes, devices or dtypes do not fit; the message names the argument, what it is and what it
            should be.

    Source: Deformable DETR, Zhu et al. 2021, arXiv:2010.04159, section 4.1 and, for boxes, appendix A.4.
    """
    return torch.ops.racdino.ms_deform_attn_fused(
        value, spatial_shapes, level_start_index, reference_points, sampling_offsets, attention_logits
    )
