"""Resize a table of position embeddings to another grid of patches.

Bicubic interpolation is separable: along each axis it is a small matrix that depends on the sizes alone. That matrix
is taken from torch's own interpolation of unit vectors, and the table is multiplied by it. Interpolating the table
itself is slow on a GPU (torch's kernel walks through the channels one by one), its gradient is not deterministic there,
and a cache of the result must notice every way in which a parameter can change. Two small float64 products need none.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def resize_positions(positions: Tensor, height: int, width: int, offset: float, antialias: bool) -> Tensor:
    """(1, 1 + N, C) embeddings of the class token and a square of patches to (1, height * width, C) of patches."""
    grid = math.isqrt(positions.shape[1] - 1)
    table = positions[0, 1:].unflatten(0, (grid, grid))
    return resize_position_grid(table, height, width, offset, antialias).flatten(0, 1)[None]


def resize_position_grid(
    table: Tensor, height: int, width: int, offset: float = 0.0, antialias: bool = False
) -> Tensor:
    """Resize embeddings bicubically (align_corners=False), differentiably.

    Args:
        table: (rows, columns, C), the grid the embeddings were trained on.
        height, width: patches of the new grid.
        offset: 0 maps the grids by their sizes; otherwise by a scale of (size + offset) / trained size, as the plain
            published DINOv2 models were trained (0.1, once meant to avoid a rounding error).
        antialias: widen the kernel when shrinking, as the register models do.
    Returns:
        (height, width, C), same dtype.
    """
    rows, columns, channels = table.shape
    if (rows, columns) == (height, width):
        return table
    down = _axis_matrix(rows, height, offset, antialias, table.device)
    across = _axis_matrix(columns, width, offset, antialias, table.device)
    resized = (down @ table.double().flatten(1)).unflatten(1, (columns, channels))
    return (across @ resized).to(table.dtype)


def _axis_matrix(source: int, target: int, offset: float, antialias: bool, device: torch.device) -> Tensor:
    """(target, source) float64: what interpolation of one axis multiplies by."""
    units = torch.eye(source, dtype=torch.float64, device=device)[None, None]
    if offset:
        scale = ((target + offset) / source, 1.0)
        matrix = F.interpolate(units, scale_factor=scale, mode="bicubic", antialias=antialias)
    else:
        matrix = F.interpolate(units, size=(target, source), mode="bicubic", antialias=antialias)
    if matrix.shape[2] != target:
        raise ValueError(
            f"a position grid of {source} cannot be scaled by ({target} + {offset}) / {source} to {target}"
        )
    return matrix[0, 0]
