"""What `racdino._C` leaves to Python: the shapes of the operators' results, for torch.compile and meta tensors.

Autograd, autocast and the kernels are registered in ``csrc/``, in the folder of their dispatch key.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def _forward_shape(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int = 64,
) -> Tensor:
    B, _, M, D = value.shape
    return value.new_empty((B, sampling_locations.shape[1], M * D))


def _backward_shapes(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    im2col_step: int,
    output_mask: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    grad_value, grad_locations, grad_weights = (
        tensor.new_empty(tensor.shape if wanted else (0,))
        for tensor, wanted in zip((value, sampling_locations, attention_weights), output_mask, strict=True)
    )
    return grad_value, grad_locations, grad_weights


def _fused_shape(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    reference_points: Tensor,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
) -> Tensor:
    B, _, M, D = value.shape
    return value.new_empty((B, sampling_offsets.shape[1], M * D))


def _fused_backward_shapes(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    reference_points: Tensor,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
    grad_output: Tensor,
    output_mask: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    grad_value, grad_reference, grad_offsets, grad_logits = (
        tensor.new_empty(tensor.shape if wanted else (0,))
        for tensor, wanted in zip(
            (value, reference_points, sampling_offsets, attention_logits), output_mask, strict=True
        )
    )
    return grad_value, grad_reference, grad_offsets, grad_logits


def _ray_locations_shape(
    offsets: Tensor,
    steps: Tensor,
    boxes: Tensor,
    ages: Tensor,
    pc_range: list[float],
    radius: float,
    region: float,
    lidar2img: Tensor | None,
    map_shapes: Tensor | None,
    image_size: list[int],
) -> Tensor:
    B, Q, D, G, P, _ = offsets.shape
    places = (G, D * P) if map_shapes is None else (D * P, G, map_shapes.shape[0])
    return offsets.new_empty((B, ages.shape[1], Q, *places, 2))


def _ray_locations_backward_shapes(
    grad_locations: Tensor,
    offsets: Tensor,
    steps: Tensor,
    boxes: Tensor,
    ages: Tensor,
    pc_range: list[float],
    radius: float,
    region: float,
    lidar2img: Tensor | None,
    map_shapes: Tensor | None,
    image_size: list[int],
    boxes_wanted: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        offsets.new_empty(offsets.shape),
        steps.new_empty(steps.shape),
        boxes.new_empty(boxes.shape if boxes_wanted else (0,)),
    )


def _batch_norm_act_shapes(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    training: bool,
    momentum: float,
    eps: float,
    relu: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    mean, variance = (weight.new_empty(weight.shape if training else (0,)) for _ in range(2))
    return torch.empty_like(x, memory_format=torch.channels_last), mean, variance


def _batch_norm_act_backward_shapes(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    training: bool,
    eps: float,
    relu: bool,
    parameters_wanted: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    wanted = training or parameters_wanted
    grad_weight, grad_bias = (weight.new_empty(weight.shape if wanted else (0,)) for _ in range(2))
    return torch.empty_like(x, memory_format=torch.channels_last), grad_weight, grad_bias


_SHAPES: dict[str, Callable] = {
    "batch_norm_act": _batch_norm_act_shapes,
    "batch_norm_act_backward": _batch_norm_act_backward_shapes,
    "ms_deform_attn_forward": _forward_shape,
    "ms_deform_attn_backward": _backward_shapes,
    "ms_deform_attn_fused": _fused_shape,
    "ms_deform_attn_fused_backward": _fused_backward_shapes,
    "ray_locations": _ray_locations_shape,
    "ray_locations_backward": _ray_locations_backward_shapes,
}

if hasattr(torch.library, "register_fake"):  # torch >= 2.4
    for name, shapes in _SHAPES.items():
        torch.library.register_fake(f"racdino::{name}")(shapes)
else:
    LIBRARY = torch.library.Library("racdino", "IMPL")  # kept: the registrations live as long as it does
    for name, shapes in _SHAPES.items():
        LIBRARY.impl(name, shapes, "Meta")
