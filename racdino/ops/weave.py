"""The last step of DinoAdapter's finest map on a GPU, in one pass over memory each way.

In plain torch it is five passes forward and as many backward over the largest maps of the backbone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def weave(upper: Tensor, lower: Tensor, added: Tensor) -> Tensor:
    """``added`` and, bilinearly resized to its size, the map whose even rows are ``upper`` and odd rows ``lower``.

    Differentiable once. Sums are taken in float32 (float64 of float64) and rounded once. Bitwise reproducible.

    Args:
        upper, lower: (B, h, 2w, C), h x w being half of H x W, rounded up; of the dtype and on the device of ``added``.
        added: (B, H, W, C) float64, float32, float16 or bfloat16 on a GPU, C a multiple of 16 bytes.
    Returns:
        (B, H, W, C).
    Raises:
        RuntimeError: shapes, devices or dtypes do not fit; the message names the argument and what it should be.
    """
    woven: Tensor = _Weave.apply(upper, lower, added)
    return woven


class _Weave(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, upper: Tensor, lower: Tensor, added: Tensor) -> Tensor:
        return torch.ops.racdino.weave(upper, lower, added)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor]:
        if not any(ctx.needs_input_grad[:2]):
            return None, None, grad
        return *torch.ops.racdino.weave_backward(grad), grad
