"""Maps in channels-last memory as rows of pixels, where a 1x1 convolution is a product."""

from __future__ import annotations

from torch import Tensor


def pixels(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B * H * W, C): of a map in channels-last memory the same memory, of another a copy."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def as_map(rows: Tensor, like: Tensor) -> Tensor:
    """(B * H * W, C) to (B, C, H, W), the size of ``like``; the same memory, which is channels-last."""
    B, _, H, W = like.shape
    return rows.view(B, H, W, -1).permute(0, 3, 1, 2)
