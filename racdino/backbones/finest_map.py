"""The largest of DinoAdapter's maps: the doubled stride-8 tokens brought to the size of the stem's map.

Shape letters: B images, H x W the stem's map, h x w the tokens (half of it, rounded up), C channels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from racdino.ops import weave
from racdino.ops.serving import VECTOR, served


def places(target: int, dtype: torch.dtype, device: torch.device) -> Tensor | None:
    """(target,): how far from pixel i to pixel i + 1 the i-th of ``target`` pixels lies, among one pixel more.

    That is bilinear interpolation (align_corners=False) of an odd side, at (2 i + 1) / (2 target). None: the side is
    even, and already what it should be.
    """
    if target % 2 == 0:
        return None
    return ((torch.arange(target, dtype=torch.float64, device=device) + 0.5) / target).to(dtype)


def add_doubled(tokens: Tensor, weight: Tensor, added: Tensor) -> Tensor:
    """``added`` and ``conv_transpose2d(stride=2)`` of the tokens, without bias, resized to it (bilinear).

    The four pixels that come from one token need not be put in their places in between: interpolation finds them where
    they are. And its gradient, spelled out, needs no atomic additions.

    Args:
        tokens: (B, h, w, C). weight: (C, C_out, 2, 2). added: (B, H, W, C_out).
    Returns:
        (B, H, W, C_out). On a GPU sums are rounded once; elsewhere after every step.
    """
    B, h, w, _ = tokens.shape
    upper, lower = (
        F.linear(tokens.flatten(0, 2), weight[:, :, row].permute(2, 1, 0).flatten(0, 1)).view(B, h, 2 * w, -1)
        for row in range(2)
    )
    if upper.dtype == added.dtype and served(added) and added.shape[3] * added.element_size() % VECTOR == 0:
        return weave(upper, lower, added)
    down, across = (places(side, upper.dtype, upper.device) for side in added.shape[1:3])
    return added + _Woven.apply(upper, lower, down, across)


class _Woven(torch.autograd.Function):
    """The upper and the lower two of every token's four pixels, (B, h, 2w, C) each, as a map (B, H, W, C)."""

    @staticmethod
    def forward(ctx: Any, upper: Tensor, lower: Tensor, down: Tensor | None, across: Tensor | None) -> Tensor:
        ctx.save_for_backward(down, across)
        B, h, width, C = upper.shape
        if across is not None:
            weights = across[:, None]
            upper, lower = (torch.lerp(rows[:, :, :-1], rows[:, :, 1:], weights) for rows in (upper, lower))
            width -= 1
        if down is None:
            return torch.stack([upper, lower], dim=2).view(B, 2 * h, width, C)
        woven = upper.new_empty(B, 2 * h - 1, width, C)
        even, odd = _even_and_odd(down)
        torch.lerp(upper, lower, even, out=woven[:, ::2])
        torch.lerp(lower[:, :-1], upper[:, 1:], odd, out=woven[:, 1::2])
        return woven

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        down, across = ctx.saved_tensors
        upper, lower = grad[:, ::2], grad[:, 1::2]
        if down is not None:
            even, odd = _even_and_odd(down)
            at_even, at_odd = upper, lower
            upper, lower = at_even * (1 - even), at_even * even
            upper[:, 1:].addcmul_(at_odd, odd)
            lower[:, :-1].addcmul_(at_odd, 1 - odd)
        if across is not None:
            upper, lower = _widened(upper, across[:, None]), _widened(lower, across[:, None])
        return upper, lower, None, None


def _even_and_odd(down: Tensor) -> tuple[Tensor, Tensor]:
    """For (B, rows, W, C): of the even rows, within a token, and of the odd ones, between a token and the next."""
    return down[::2, None, None], down[1::2, None, None]


def _widened(grad: Tensor, across: Tensor) -> Tensor:
    """The gradient of lerp(x[:, :, :-1], x[:, :, 1:], across) in x."""
    B, h, width, C = grad.shape
    wide = grad.new_empty(B, h, width + 1, C)
    torch.mul(grad, 1 - across, out=wide[:, :, :-1])
    wide[:, :, -1] = 0
    wide[:, :, 1:].addcmul_(grad, across)
    return wide
