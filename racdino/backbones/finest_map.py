"""The largest of DinoAdapter's maps: the doubled stride-8 tokens brought to the size of the stem's map.

Shape letters: B images, H x W the stem's map, h x w the tokens (half of it, rounded up), C channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def shrinking(height: int, width: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """(H, 2h) and (W, 2w): bilinear interpolation along each axis, as matrices."""
    return _axis(height, dtype, device), _axis(width, dtype, device)


def _axis(target: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """An odd side comes from one pixel more: pixel i lies between source pixels i and i + 1, at (2 i + 1) / (2 target).

    The place is rounded to a multiple of eps / 2, of which its complement is one as well: a constant stays a constant.
    """
    if target % 2 == 0:
        return torch.eye(target, device=device).to(dtype)
    unit = torch.finfo(dtype).eps / 2
    place = (torch.arange(target, dtype=torch.float64, device=device) + 0.5) / target
    place = (place / unit).round() * unit
    left = F.pad(torch.diag(1 - place), (0, 1))
    return (left + F.pad(torch.diag(place), (1, 0))).to(dtype)


def doubled_and_shrunk(tokens: Tensor, weight: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """``conv_transpose2d(stride=2)`` without bias and ``interpolate(mode="bilinear")``, as products.

    The four pixels that come from one token need not be put in their places in between: the interpolation's matrices
    find them where they are. And its gradient, a product as well, needs no atomic additions.

    Args:
        tokens: (B, h, w, C). weight: (C, C_out, 2, 2). down, across: of `shrinking`, in the products' dtype.
    Returns:
        (B, H, W, C_out).
    """
    B, h, w, _ = tokens.shape
    height, width = len(down), len(across)

    def half(lower: int) -> tuple[Tensor, Tensor]:
        """The upper or the lower two of every token's four pixels, with their weights in each row of the result."""
        rows = F.linear(tokens.flatten(0, 2), weight[:, :, lower].permute(2, 1, 0).flatten(0, 1))
        rows = rows.view(B * h, 2 * w, -1)
        if width != 2 * w:
            rows = torch.bmm(across.expand(B * h, -1, -1), rows)
        return down[:, lower::2].expand(B, -1, -1), rows.view(B, h, -1)

    return torch.bmm(*half(0)).baddbmm_(*half(1)).view(B, height, width, -1)
