# ruff: noqa: N999  (the name is the field's)
"""Deformable-DETR's extension name, answered by racdino. New code: ``from racdino.ops import ms_deform_attn``."""

from __future__ import annotations

import torch
from torch import Tensor

import racdino.ops  # noqa: F401  (loads the library that defines torch.ops.racdino)

__all__ = ["ms_deform_attn_backward", "ms_deform_attn_forward"]


def ms_deform_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_loc: Tensor,
    attn_weight: Tensor,
    im2col_step: int,
) -> Tensor:
    """(B, Q, M*D) output, in the argument order of the original extension; see `racdino.ops.ms_deform_attn`."""
    return torch.ops.racdino.ms_deform_attn_forward(
        value, spatial_shapes, level_start_index, sampling_loc, attn_weight, im2col_step
    )


def ms_deform_attn_backward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_loc: Tensor,
    attn_weight: Tensor,
    grad_output: Tensor,
    im2col_step: int,
) -> list[Tensor]:
    """Gradients as [value, sampling_loc, attn_weight], in the argument order of the original extension."""
    return list(
        torch.ops.racdino.ms_deform_attn_backward(
            value, spatial_shapes, level_start_index, sampling_loc, attn_weight, grad_output, im2col_step, [True] * 3
        )
    )
