"""Shapes of what the attention and the places where queries look give."""

from __future__ import annotations

from collections.abc import Callable

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


SHAPES: dict[str, Callable] = {
    "ms_deform_attn_forward": _forward_shape,
    "ms_deform_attn_backward": _backward_shapes,
    "ms_deform_attn_fused": _fused_shape,
    "ms_deform_attn_fused_backward": _fused_backward_shapes,
    "ray_locations": _ray_locations_shape,
    "ray_locations_backward": _ray_locations_backward_shapes,
}
