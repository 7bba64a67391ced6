"""The field's function names over ``racdino.ops``, with the field's positional arguments."""

from __future__ import annotations

from torch import Tensor

from racdino.ops import ms_deform_attn, ms_deform_attn_reference


class MSDeformAttnFunction:
    """``apply(value, spatial_shapes, level_start_index, sampling_locations, attention_weights, im2col_step)``."""

    apply = staticmethod(ms_deform_attn)


def ms_deform_attn_core_pytorch(
    value: Tensor, value_spatial_shapes: Tensor, sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """The pure-torch reference, without ``level_start_index``: it follows from the shapes."""
    cells = value_spatial_shapes.prod(1)
    return ms_deform_attn_reference(
        value, value_spatial_shapes, cells.cumsum(0) - cells, sampling_locations, attention_weights
    )
