"""What it costs to give a query to an object; the sum of these is what the assignment minimises.

Source: DETR, Carion et al. 2020, arXiv:2005.12872, section 3.1; RaCFormer, arXiv:2412.12725 (angle).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from racdino.detector.registry import register


@register("FocalLossCost")
class FocalLossCost:
    """Focal loss of the object's class being present, minus that of its being absent, times ``weight``."""

    def __init__(self, weight: float = 1.0, alpha: float = 0.25, gamma: float = 2.0, eps: float = 1e-12) -> None:
        self.weight = weight
        self.alpha = alpha
        self.gamma = gamma
        self.eps = eps

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(..., Q, classes) logits and (n,) labels to (..., Q, n)."""
        score = logits.sigmoid()
        absent = -(1 - score + self.eps).log() * (1 - self.alpha) * score**self.gamma
        present = -(score + self.eps).log() * self.alpha * (1 - score) ** self.gamma
        return (present - absent)[..., labels] * self.weight


@register("BBox3DL1Cost")
class BBox3DL1Cost:
    """Sum of the absolute differences of box codes, times ``weight``."""

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    def __call__(self, codes: Tensor, targets: Tensor) -> Tensor:
        """(..., Q, k) and (n, k) to (..., Q, n)."""
        return torch.cdist(codes, targets, p=1) * self.weight


@register("ThetaL1Cost")
class ThetaL1Cost:
    """Difference of azimuths as seen from the car, the short way round, in turns (0 to 0.5), times ``weight``."""

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    def __call__(self, xy: Tensor, targets: Tensor) -> Tensor:
        """(..., Q, 2) and (n, 2) metres to (..., Q, n)."""
        theta, target = (torch.atan2(points[..., 1], points[..., 0]) / (2 * math.pi) for points in (xy, targets))
        difference = (theta[..., None] - target).abs()
        return torch.minimum(difference, 1 - difference) * self.weight


@register("IoUCost")
class IoUCost:
    """A name in RaCFormer's configs whose weight is 0; it is never computed."""

    def __init__(self, weight: float = 0.0) -> None:
        if weight != 0:
            raise ValueError(f"IoUCost: weight is {weight}; only 0 is supported, as in RaCFormer.")
