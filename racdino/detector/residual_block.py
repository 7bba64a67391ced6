"""A residual block of convolutions with bias, ReLU after each: one node in autograd's graph, with its own backward.

Maps (B, C, H, W) are in channels-last memory, in which a 1x1 convolution is a product over pixels and cuDNN converts
nothing. Source: He et al. 2016, arXiv:1512.03385, section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from racdino.detector.channels_last import as_map, pixels
from racdino.detector.folded_norm import Folded

_HALF = (torch.float16, torch.bfloat16)


def residual_block(
    x: Tensor, convolutions: Sequence[Folded], strides: Sequence[int], shortcut: Folded | None, recompute: bool
) -> Tensor:
    """relu(convolutions(x) + shortcut(x)), with a ReLU between the convolutions; padded, sizes / stride rounded up.

    Args:
        x: (B, C, H, W), in the dtype of the weights.
        strides: of each convolution; of a 1x1 convolution it is 1. shortcut: a 1x1 convolution whose stride is the
            product of all, or None for x itself.
        recompute: compute what is between the convolutions again in the backward pass instead of keeping it.
    """
    layers = [*convolutions, *([] if shortcut is None else [shortcut])]
    tensors = (getattr(layer, name) for name in Folded._fields for layer in layers)
    return _ResidualBlock.apply(x, tuple(strides), recompute, *tensors)


class _ResidualBlock(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strides: tuple[int, ...], recompute: bool, *tensors: Tensor) -> Tensor:
        count = len(tensors) // 3
        weights, biases = tensors[:count], tensors[count : 2 * count]
        last = len(strides) - 1
        inner = _inner(x, weights, biases, strides)
        across = x
        if count > len(strides):
            across = _convolve(_shrunk(x, strides), weights[-1], biases[-1], 1)
        out = _convolved_plus([x, *inner][-1], weights[last], biases[last], strides[last], across)
        ctx.strides, ctx.shift_dtype = strides, tensors[-1].dtype
        ctx.save_for_backward(x, out, *weights, *biases, *([] if recompute else inner))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, out, *saved = ctx.saved_tensors
        strides, (needs_x, _, _, *needed) = ctx.strides, ctx.needs_input_grad
        count, convolutions = len(needed) // 3, len(strides)
        weights, biases, inner = saved[:count], saved[count : 2 * count], saved[2 * count :]
        of_weights: list[Tensor | None] = [None] * count
        of_shifts: list[Tensor | None] = [None] * count
        with torch.autocast(x.device.type, enabled=False):
            inner = inner or _inner(x, weights, biases, strides)
            grad = top = _through_relu(grad, out)
            for index in reversed(range(convolutions)):
                source = inner[index - 1] if index else x
                if needed[2 * count + index]:
                    of_shifts[index] = pixels(grad).sum(0, dtype=ctx.shift_dtype)
                if needed[index]:
                    of_weights[index] = _weight_gradient(grad, source, weights[index], strides[index])
                if index:
                    grad = _through_relu(_input_gradient(grad, source, weights[index], strides[index]), source)
            if count > convolutions:
                if needed[count - 1]:
                    of_weights[-1] = _weight_gradient(top, _shrunk(x, strides), weights[-1], 1)
                if needed[-1]:  # the shift of the shortcut adds to the same sum as that of the last convolution
                    of_shifts[-1] = of_shifts[convolutions - 1]
                    if of_shifts[-1] is None:
                        of_shifts[-1] = pixels(top).sum(0, dtype=ctx.shift_dtype)
            of_x = None
            if needs_x and count > convolutions:
                of_x = _input_gradient(grad, x, weights[0], strides[0])
                _shrunk(of_x, strides).add_(_input_gradient(top, top, weights[-1], 1))
            elif needs_x and weights[0].dim() == 2:
                of_x = as_map(pixels(top).addmm_(pixels(grad), weights[0]), x)
            elif needs_x:
                of_x = _input_gradient(grad, x, weights[0], strides[0]).add_(top)
        return (of_x, None, None, *of_weights, *[None] * count, *of_shifts)


def _inner(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], strides: Sequence[int]) -> list[Tensor]:
    """The maps between the convolutions, after their ReLUs."""
    maps: list[Tensor] = []
    for weight, bias, stride in list(zip(weights, biases, strides, strict=False))[:-1]:
        source = maps[-1] if maps else x
        if weight.dim() == 2:
            maps.append(as_map(torch._addmm_activation(bias, pixels(source), weight.t()), source))
        elif _has_fused_kernel(source):
            maps.append(torch.cudnn_convolution_relu(source, weight, bias, [stride] * 2, [1, 1], [1, 1], 1))
        else:
            maps.append(F.conv2d(source, weight, bias, stride, padding=1).relu_())
    return maps


def _convolve(x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    if weight.dim() == 2:
        return as_map(torch.addmm(bias, pixels(x), weight.t()), x)
    return F.conv2d(x, weight, bias, stride, padding=1)


def _convolved_plus(x: Tensor, weight: Tensor, bias: Tensor, stride: int, across: Tensor) -> Tensor:
    """relu(convolution of x + across)."""
    if weight.dim() == 2 and _has_fused_kernel(x):
        kernel = weight[:, :, None, None]
        return torch.cudnn_convolution_add_relu(x, kernel, across, 1.0, bias, [1, 1], [0, 0], [1, 1], 1)
    return _convolve(x, weight, bias, stride).add_(across).relu_()


def _weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    if weight.dim() == 2:
        return pixels(grad).t() @ pixels(x)
    return _convolution_backward(grad, x, weight, stride, [False, True, False])[1]


def _input_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    if weight.dim() == 2:
        return as_map(pixels(grad) @ weight, grad)
    of_x = _convolution_backward(grad, x, weight, stride, [True, False, False])[0]
    return of_x.contiguous(memory_format=torch.channels_last)


def _convolution_backward(grad: Tensor, x: Tensor, weight: Tensor, stride: int, wanted: list[bool]) -> list[Tensor]:
    return torch.ops.aten.convolution_backward(
        grad, x, weight, None, [stride] * 2, [1, 1], [1, 1], False, [0, 0], 1, wanted
    )


def _through_relu(grad: Tensor, out: Tensor) -> Tensor:
    return torch.ops.aten.threshold_backward(grad.contiguous(memory_format=torch.channels_last), out, 0)


def _shrunk(x: Tensor, strides: Sequence[int]) -> Tensor:
    for stride in strides:
        x = x[:, :, ::stride, ::stride] if stride > 1 else x
    return x


def _has_fused_kernel(x: Tensor) -> bool:
    """Where cuDNN adds bias and ReLU to a convolution on the way: 16-bit maps on Ampere and newer.

    Not with torch 2.0, whose call of it nobody has run in bfloat16.
    """
    return (
        hasattr(torch, "compiler")
        and x.is_cuda
        and x.dtype in _HALF
        and torch.backends.cudnn.enabled
        and torch.cuda.get_device_capability(x.device) >= (8, 0)
    )
