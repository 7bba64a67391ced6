"""Layer norm with the residual sum before it, on a GPU in one pass over memory each way.

In plain torch a residual sum, the norm after it and, backward, the sum of the residual's gradient and the norm's are a
kernel each, all of which wait for memory only.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from racdino.ops.serving import differentiates, served

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_WIDTHS = (384, 768, 1024, 1536)  # as csrc/cuda/add_layer_norm.h has them


def add_layer_norm(x: Tensor, update: Tensor | None, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """``x + update`` and its layer norm over the last dimension.

    The sum is for the residual connection: what follows should take it from here, also without ``update``, so that both
    its gradients are added in the operator. A GPU's kernels serve float32, float16 and bfloat16 in the widths of
    DINOv2; for everything else, and while torch compiles or traces, this is plain torch. With the kernels it is
    differentiable once, and bitwise reproducible.

    Args:
        x: (..., C). update: what is added to it, or None.
        weight, bias: (C,), in any dtype; the kernels read float32 as it is and use it so, plain torch in that of x.

    Returns:
        (..., C) each: the sum, without ``update`` ``x`` itself or a view of it; and the norm of the sum as it was
        rounded, in the sum's dtype also under autocast.

    Raises:
        RuntimeError: shapes or devices do not fit; the message names the argument and what it should be.
    """
    if update is not None and (update.dtype != x.dtype or update.shape != x.shape):
        x, update = x + update, None
    if not _has_kernel(x, weight, bias):
        x = x if update is None else x + update
        return x, _plain(x, weight, bias, eps)
    if differentiates():
        total, normed = _AddLayerNorm.apply(x, update, weight, bias, eps)
        return total, normed
    # Without the Function, which keeps the host for longer than the operator does.
    total, normed, _, _ = torch.ops.racdino.add_layer_norm(x, update, weight, bias, eps)
    return x if update is None else total, normed


def _has_kernel(x: Tensor, weight: Tensor, bias: Tensor) -> bool:
    fits = x.dtype in _DTYPES and x.shape[-1] in _WIDTHS
    return fits and weight.dtype == bias.dtype and weight.dtype in (x.dtype, torch.float32) and served(x)


def _plain(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    if x.dtype == weight.dtype:
        return F.layer_norm(x, x.shape[-1:], weight, bias, eps)
    with torch.autocast(x.device.type, enabled=False):  # which would raise it to float32
        return F.layer_norm(x, x.shape[-1:], weight.to(x.dtype), bias.to(x.dtype), eps)


class _AddLayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, update: Tensor | None, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        total, normed, mean, rstd = torch.ops.racdino.add_layer_norm(x, update, weight, bias, eps)
        ctx.save_for_backward(x if update is None else total, mean, rstd, weight)
        ctx.set_materialize_grads(False)
        return x.view_as(x) if update is None else total, normed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor | None, grad_normed: Tensor | None) -> tuple[Tensor | None, ...]:
        _, update_wanted, weight_wanted, bias_wanted, _ = ctx.needs_input_grad
        if grad_normed is None:
            return grad_total, grad_total if update_wanted else None, None, None, None
        grad_x, grad_weight, grad_bias = torch.ops.racdino.add_layer_norm_backward(
            grad_normed, grad_total, *ctx.saved_tensors, weight_wanted or bias_wanted
        )
        return (
            grad_x,
            grad_x if update_wanted else None,
            grad_weight if weight_wanted else None,
            grad_bias if bias_wanted else None,
            None,
        )
