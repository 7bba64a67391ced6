"""Depth and RCS as classes: bins of linearly increasing width, min over blocks of pixels, one-hot maps.

Source of the bins: Reading et al. 2021, arXiv:2103.01100 (CaDDN), LID discretisation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


class DepthBins:
    """``count`` bins from ``near`` to ``far`` metres; each is one step wider than the one before."""

    def __init__(self, near: float, far: float, count: float) -> None:
        self.near, self.far, self.count = float(near), float(far), int(count)
        self.step = 2 * (self.far - self.near) / (self.count * (self.count + 1))

    def values(self) -> Tensor:
        """(count,) metres that stand for the bins: their near edges, as upstream's weights were trained with."""
        index = torch.arange(self.count, dtype=torch.float64)
        return ((index + 0.5) ** 2 * self.step / 2 - self.step / 8 + self.near).float()

    def classes(self, depth: Tensor) -> Tensor:
        """Metres to int64 bin numbers; ``count`` for what is outside of [near, far) or no number."""
        inside = (depth >= self.near) & (depth < self.far)
        root = (1 + 8 * (torch.where(inside, depth, self.near) - self.near) / self.step).sqrt()
        bins = (0.5 * root - 0.5).floor().long().clamp(max=self.count - 1)
        return torch.where(inside, bins, self.count)


def nearest_of_block(depth: Tensor, size: int) -> Tensor:
    """(..., H, W) metres, 0 = none, to (..., H/size, W/size): the smallest of each block, 0 where it has none."""
    nearest = -F.max_pool2d(-torch.where(depth > 0, depth, math.inf).flatten(0, -3), size)
    return torch.where(nearest.isfinite(), nearest, 0).unflatten(0, depth.shape[:-2])


def largest_of_block(values: Tensor, size: int) -> Tensor:
    """(..., H, W) to (..., H/size, W/size): the largest of each block."""
    return F.max_pool2d(values.flatten(0, -3), size).unflatten(0, values.shape[:-2])


def rcs_one_hot(rcs: Tensor, measured: Tensor, bounds: Sequence[float]) -> Tensor:
    """Radar cross section per pixel to a one-hot map.

    Args:
        rcs: (K, h, w) dBsm. measured: (K, h, w) bool; elsewhere all bins are zero.
        bounds: low and high in dBsm, and the number of bins; values beyond count for the first and the last bin.
    Returns:
        (K, bins, h, w) float32.
    """
    low, high, count = float(bounds[0]), float(bounds[1]), int(bounds[2])
    bins = ((rcs - low) / ((high - low) / count)).floor().clamp(0, count - 1)
    return one_hot_map(torch.where(measured & ~rcs.isnan(), bins, count).long(), count + 1)[:, :count]


def one_hot_map(classes: Tensor, count: int) -> Tensor:
    """(K, h, w) int64 to (K, count, h, w) float32."""
    return F.one_hot(classes, count).permute(0, 3, 1, 2).float()


def softmax_focal_loss(logits: Tensor, classes: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """(K, D) logits and (K,) classes to (K,) losses. Source: Lin et al. 2017, arXiv:1708.02002, over a softmax."""
    log_p = logits.log_softmax(1).gather(1, classes[:, None])[:, 0]
    return -alpha * (1 - log_p.exp()) ** gamma * log_p
