"""Shapes of what the steps of the backbone give."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


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


SHAPES: dict[str, Callable] = {
    "add_layer_norm": _add_layer_norm_shapes,
    "add_layer_norm_backward": _add_layer_norm_backward_shapes,
    "batch_norm_act": _batch_norm_act_shapes,
    "batch_norm_act_backward": _batch_norm_act_backward_shapes,
    "weave": _weave_shape,
    "weave_backward": _weave_backward_shapes,
    "crop": _crop_shape,
    "crop_backward": _crop_backward_shape,
    "depthwise_conv_gelu": _depthwise_conv_gelu_shape,
    "depthwise_conv_gelu_backward": _depthwise_conv_gelu_backward_shapes,
}
