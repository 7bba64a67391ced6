"""Sum image features into the cells of a bird's-eye-view grid that their depth hypotheses fall into.

Source: Huang & Huang 2022, arXiv:2211.17111 (BEVPoolV2): the products are never stored, here neither, and which
hypothesis belongs to which cell is sorted beforehand.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_STRETCH = 32  # hypotheses added up one after the other: near the car a cell has thousands, and the others would wait
_ROWS = 1024  # pixels whose cells' gradients are gathered at a time: 1024 * 96 bins * 256 channels is 100 MB


class Ranks(NamedTuple):
    """Depth hypotheses, sorted by the cell they fall into.

    cells: (P, D) int64 in [0, num_cells]; num_cells itself means "outside the grid" and is dropped.
    order: (n,) int64 places in ``cells.flatten()`` of those inside. stretches: (s + 1,) where in ``order`` a new sum
    begins: at each cell, and after every 32nd hypothesis. first: (num_cells + 1,) where in those a cell begins.
    """

    cells: Tensor
    order: Tensor
    stretches: Tensor
    first: Tensor

    @classmethod
    def of(cls, cells: Tensor, num_cells: int) -> Ranks:
        """Waits for the device, which says how many are inside."""
        ordered, order = cells.flatten().sort(stable=True)
        numbers = torch.arange(num_cells + 1, device=cells.device)
        begin = torch.searchsorted(ordered, numbers)
        inside = int(begin[-1])
        between = torch.arange(0, inside, _STRETCH, device=cells.device)
        stretches = torch.cat([begin, between]).sort().values
        before = torch.div(begin + _STRETCH - 1, _STRETCH, rounding_mode="floor")  # of those between
        return cls(cells, order[:inside], stretches, numbers + before)


def bev_pool(depth: Tensor, features: Tensor, ranks: Ranks) -> Tensor:
    """out[cells[p, d]] += depth[p, d] * features[p], for P pixels with D depth hypotheses each.

    Args:
        depth: (P, D) weights. features: (P, C). ranks: of their cells.
    Returns:
        (num_cells, C) in float32 or, of float64 inputs, float64. The order of summation is fixed.
    """
    dtype = torch.promote_types(torch.promote_types(depth.dtype, features.dtype), torch.float32)
    with torch.autocast(depth.device.type, enabled=False):
        return _BevPool.apply(depth.to(dtype), features.to(dtype), *ranks)


class _BevPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, depth: Tensor, features: Tensor, *ranks: Tensor) -> Tensor:
        cells, order, stretches, first = ranks
        ctx.save_for_backward(depth, features, cells)
        sums = F.embedding_bag(
            torch.div(order, cells.shape[1], rounding_mode="floor"),
            features,
            stretches,
            mode="sum",
            per_sample_weights=depth.flatten()[order],
            include_last_offset=True,
        )
        every = torch.arange(len(sums), device=sums.device)
        return F.embedding_bag(every, sums, first, mode="sum", include_last_offset=True)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        depth, features, cells = ctx.saved_tensors
        padded = torch.cat([grad, grad.new_zeros(1, grad.shape[1])])  # the last row is what was dropped
        grad_depth, grad_features = torch.empty_like(depth), torch.empty_like(features)
        for start in range(0, len(cells), _ROWS):
            rows = slice(start, start + _ROWS)
            gathered = padded[cells[rows]]  # (rows, D, C)
            grad_depth[rows] = torch.bmm(gathered, features[rows, :, None])[..., 0]
            grad_features[rows] = torch.bmm(depth[rows, None], gathered)[:, 0]
        return grad_depth, grad_features, None, None, None, None
