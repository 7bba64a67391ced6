"""The views of a frame stacked into one tall map per level, level after level, in one pass over memory.

Shape letters: M frames, N views, H x W pixels of a level, C channels, S pixels of all levels' tall maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def tall_maps(levels: Sequence[Tensor]) -> Tensor:
    """(M, N, H_l, W_l, C) of each level to (M, S, C) in at least float32: a row of zeros follows each view.

    Best where C is the innermost in memory, as in channels-last maps.
    """
    return _TallMaps.apply(*levels)


class _TallMaps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *levels: Tensor) -> Tensor:
        ctx.shapes, ctx.dtypes = [level.shape for level in levels], [level.dtype for level in levels]
        M, *_, C = levels[0].shape
        S = sum(N * (H + 1) * W for _, N, H, W, _ in ctx.shapes)
        values = levels[0].new_empty(M, S, C, dtype=torch.promote_types(levels[0].dtype, torch.float32))
        for level, views in zip(levels, _views(values, ctx.shapes), strict=True):
            views[:, :, :-1].copy_(level)
            views[:, :, -1] = 0
        return values

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        views = _views(grad, ctx.shapes)
        return tuple(
            view[:, :, :-1].to(dtype, memory_format=torch.contiguous_format, copy=True)  # type: ignore[call-overload]
            for view, dtype in zip(views, ctx.dtypes, strict=True)
        )


def _views(values: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    """(M, N, H_l + 1, W_l, C) of each level, the same memory."""
    sizes = [N * (H + 1) * W for _, N, H, W, _ in shapes]
    return [
        level.unflatten(1, (N, H + 1, W))
        for level, (_, N, H, W, _) in zip(values.split(sizes, dim=1), shapes, strict=True)
    ]
