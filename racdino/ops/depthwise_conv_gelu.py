"""Depthwise 3x3 convolution of a pyramid's tokens and GELU, on a GPU in one pass over memory.

In plain torch every level is cut out, convolved, and joined to the others again, and the sums wait for GELU in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from racdino.ops.serving import served

Sizes = Sequence[tuple[int, int]]
_MOST_LEVELS = 8  # of the operator


def depthwise_conv_gelu(x: Tensor, weight: Tensor, bias: Tensor, sizes: Sizes) -> Tensor:
    """GELU (the exact one, with erf) of a depthwise 3x3 convolution with zero padding, each level on its own.

    On a GPU sums are kept in float32 (float64 for float64) and rounded once, after GELU; the result is bitwise
    reproducible and differentiable once. Elsewhere, while torch compiles or traces, and for what the operator does not
    take (an odd C, more than 8 levels), the same in plain torch.

    Args:
        x: (B, S, C) tokens, level after level, row by row.
        weight: (C, 1, 3, 3). bias: (C,). In the dtype of ``x``; or in float32, as parameters are under autocast.
        sizes: (height, width) of each level; S tokens together.

    Returns:
        (B, S, C), the dtype of ``x`` (under autocast, as of a convolution, that of autocast).

    Raises:
        ValueError: ``sizes`` do not add up to S.
        RuntimeError: other shapes, devices or dtypes do not fit.

    Source: the feed-forward of ViT-Adapter, Chen et al. 2023, arXiv:2205.08534, section 3.4.
    """
    if torch.jit.is_tracing():  # sizes are numbers, S is traced
        return _plain(x, weight, bias, sizes)
    if x.dim() == 3 and sum(height * width for height, width in sizes) != x.shape[1]:
        raise ValueError(
            f"depthwise_conv_gelu: sizes {[tuple(size) for size in sizes]} have "
            f"{sum(height * width for height, width in sizes)} tokens together, but x has {x.shape[1]} of shape "
            f"{tuple(x.shape)}; give the (height, width) of every level in x, in their order."
        )
    if not _operator_takes(x, weight, bias, sizes):
        return _plain(x, weight, bias, sizes)
    result: Tensor = _DepthwiseConvGelu.apply(x, weight, bias, [side for size in sizes for side in size])
    return result


def _operator_takes(x: Tensor, weight: Tensor, bias: Tensor, sizes: Sizes) -> bool:
    if not served(x):
        return False
    parameters = (x.dtype,) if x.dtype == torch.float64 else (x.dtype, torch.float32)
    return (
        x.dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)
        and not _autocast_changes(x)
        and weight.dtype == bias.dtype
        and weight.dtype in parameters
        and x.dim() == 3
        and x.shape[2] % 2 == 0
        and 0 < len(sizes) <= _MOST_LEVELS
    )


def _autocast_changes(x: Tensor) -> bool:
    """Whether a convolution of ``x``, on a GPU, computes in another dtype."""
    if hasattr(torch, "get_autocast_dtype"):  # torch >= 2.4
        enabled, dtype = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")  # type: ignore[call-arg]
    else:
        enabled, dtype = torch.is_autocast_enabled(), torch.get_autocast_gpu_dtype()
    return enabled and x.dtype not in (dtype, torch.float64)


def _plain(x: Tensor, weight: Tensor, bias: Tensor, sizes: Sizes) -> Tensor:
    # Tokens are a map in channels-last memory. Flattened, the weight gets a gradient in its own strides, which a
    # convolution of such maps does not give, and at which DDP would warn.
    weight = weight.flatten(1).to(x.dtype).view_as(weight)
    bias = bias.to(x.dtype)
    levels = x.split([height * width for height, width in sizes], dim=1)
    maps = [level.unflatten(1, size).permute(0, 3, 1, 2) for level, size in zip(levels, sizes, strict=True)]
    maps = [F.conv2d(level, weight, bias, padding=1, groups=weight.shape[0]) for level in maps]
    return F.gelu(torch.cat([level.permute(0, 2, 3, 1).flatten(1, 2) for level in maps], dim=1))


class _DepthwiseConvGelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, sizes: list[int]) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        ctx.sizes = sizes
        return torch.ops.racdino.depthwise_conv_gelu(x, weight, bias, sizes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x_wanted, weight_wanted, bias_wanted, _ = ctx.needs_input_grad
        grad_x, grad_weight, grad_bias = torch.ops.racdino.depthwise_conv_gelu_backward(
            grad, *ctx.saved_tensors, ctx.sizes, x_wanted, weight_wanted or bias_wanted
        )
        return (
            grad_x if x_wanted else None,
            grad_weight if weight_wanted else None,
            grad_bias if bias_wanted else None,
            None,
        )
