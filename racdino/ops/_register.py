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


def _weave_shape(upper: Tensor, lower: Tensor, added: Tensor) -> Tensor:
    return added.new_empty(added.shape)


def _weave_backward_shapes(grad: Tensor) -> tuple[Tensor, Tensor]:
    B, H, W, C = grad.shape
    shape = (B, (H + 1) // 2, (W + 1) // 2 * 2, C)
    return grad.new_empty(shape), grad.new_empty(shape)


def _crop_shape(x: Tensor, height: int, width: int) -> Tensor:
    return x.new_empty((*x.shape[:2], height, width))


def _crop_backward_shape(grad: Tensor, H: int, W: int) -> Tensor:
    B, C = grad.shape[:2]
    return grad.new_empty((B, H, W, C)).permute(0, 3, 1, 2)


def _add_layer_norm_shapes(
    x: Tensor, update: Tensor | None, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    mean, rstd = (x.new_empty(x.shape[:-1], dtype=torch.float32) for _ in range(2))
    return x.new_empty((0,) if update is None else x.shape), x.new_empty(x.shape), mean, rstd


def _add_layer_norm_backward_shapes(
    grad_normed: Tensor,
    grad_sum: Tensor | None,
    sum: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor,
    weight_wanted: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    grad_weight, grad_bias = (weight.new_empty(weight.shape if weight_wanted else (0,)) for _ in range(2))
    return sum.new_empty(sum.shape), grad_weight, grad_bias


def _depthwise_conv_gelu_shape(x: Tensor, weight: Tensor, bias: Tensor, sizes: list[int]) -> Tensor:
    return x.new_empty(x.shape)


def _depthwise_conv_gelu_backward_shapes(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, sizes: list[int], x_wanted: bool, weight_wanted: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        x.new_empty(x.shape if x_wanted else (0,)),
        weight.new_empty(weight.shape if weight_wanted else (0,)),
        bias.new_empty(bias.shape if weight_wanted else (0,)),
    )


_SHAPES: dict[str, Callable] = {
    "add_layer_norm": _add_layer_norm_shapes,
    "add_layer_norm_backward": _add_layer_norm_backward_shapes,
    "ms_deform_attn_forward": _forward_shape,
    "ms_deform_attn_backward": _backward_shapes,
    "ms_deform_attn_fused": _fused_shape,
    "ms_deform_attn_fused_backward": _fused_backward_shapes,
    "ray_locations": _ray_locations_shape,
    "ray_locations_backward": _ray_locations_backward_shapes,
    "weave": _weave_shape,
    "weave_backward": _weave_backward_shapes,
    "crop": _crop_shape,
    "crop_backward": _crop_backward_shape,
    "depthwise_conv_gelu": _depthwise_conv_gelu_shape,
    "depthwise_conv_gelu_backward": _depthwise_conv_gelu_backward_shapes,
}

if hasattr(torch.library, "register_fake"):  # torch >= 2.4
    for name, shapes in _SHAPES.items():
        torch.library.register_fake(f"racdino::{name}")(shapes)
else:
    LIBRARY = torch.library.Library("racdino", "IMPL")  # kept: the registrations live as long as it does
    for name, shapes in _SHAPES.items():
        LIBRARY.impl(name, shapes, "Meta")
