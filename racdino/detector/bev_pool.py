"""Sum image features into the cells of a bird's-eye-view grid that their depth hypotheses fall into.

Source: Huang & Huang 2022, arXiv:2211.17111 (BEVPoolV2): the products are never stored, here neither.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_ROWS = 1024  # pixels whose cells' gradients are gathered at a time: 1024 * 96 bins * 256 channels is 100 MB


def bev_pool(depth: Tensor, features: Tensor, cells: Tensor, num_cells: int) -> Tensor:
    """out[cells[p, d]] += depth[p, d] * features[p], for P pixels with D depth hypotheses each.

    Args:
        depth: (P, D) weights. features: (P, C).
        cells: (P, D) int64 in [0, num_cells]; num_cells itself means "outside the grid" and is dropped.
    Returns:
        (num_cells, C) in float32 or, of float64 inputs, float64. The order of summation is fixed on the CPU.
    """
    dtype = torch.promote_types(torch.promote_types(depth.dtype, features.dtype), torch.float32)
    with torch.autocast(depth.device.type, enabled=False):
        return _BevPool.apply(depth.to(dtype), features.to(dtype), cells, num_cells)


class _BevPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, depth: Tensor, features: Tensor, cells: Tensor, num_cells: int) -> Tensor:
        ctx.save_for_backward(depth, features, cells)
        pixel, hypothesis = (cells < num_cells).nonzero(as_tuple=True)
        index = torch.stack([cells[pixel, hypothesis], pixel])
        weights = torch.sparse_coo_tensor(index, depth[pixel, hypothesis], (num_cells, len(features)))
        return torch.sparse.mm(weights, features)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        depth, features, cells = ctx.saved_tensors
        padded = torch.cat([grad, grad.new_zeros(1, grad.shape[1])])  # the last row is what was dropped
        grad_depth, grad_features = torch.empty_like(depth), torch.empty_like(features)
        for start in range(0, len(cells), _ROWS):
            rows = slice(start, start + _ROWS)
            gathered = padded[cells[rows]]  # (rows, D, C)
            grad_depth[rows] = torch.bmm(gathered, features[rows, :, None])[..., 0]
            grad_features[rows] = torch.bmm(depth[rows, None], gathered)[:, 0]
        return grad_depth, grad_features, None, None
