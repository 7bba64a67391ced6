"""The head's losses under the names configs know them by. Sums divided by what the caller counted."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from racdino.detector.registry import register


@register("FocalLoss")
class FocalLoss(nn.Module):
    """Sigmoid focal loss over classes.

    Args:
        use_sigmoid: must be True. gamma, alpha: the paper's. loss_weight: factor of the result.

    Source: Lin et al. 2017, arXiv:1708.02002, eq. 5.
    """

    def __init__(
        self, use_sigmoid: bool = True, gamma: float = 2.0, alpha: float = 0.25, loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        if not use_sigmoid:
            raise ValueError("FocalLoss: use_sigmoid=False is not supported; RaCFormer's classes are independent.")
        self.gamma = gamma
        self.alpha = alpha
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, labels: Tensor, normaliser: Tensor, counts: Tensor | None = None) -> Tensor:
        """Logits (..., n, classes) and labels (..., n) int64, where the number of classes means none of them, to (...).

        ``counts`` (..., n) bool says which rows count; None: all.
        """
        classes = logits.shape[-1]
        if counts is not None:
            logits = torch.where(counts[..., None], logits, 0)  # first, so that no gradient of theirs can be NaN
        target = F.one_hot(labels, classes + 1)[..., :classes].to(logits.dtype)
        # log p of what is true: stable for large logits, unlike the logarithm of a probability.
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        probability = logits.sigmoid()
        missed = torch.where(target > 0, 1 - probability, probability)
        alpha = torch.where(target > 0, self.alpha, 1 - self.alpha)
        losses = entropy * alpha * missed**self.gamma
        if counts is not None:
            losses = losses * counts[..., None]
        return losses.sum((-2, -1)) / normaliser * self.loss_weight


@register("L1Loss")
class L1Loss(nn.Module):
    """Weighted sum of absolute differences. ``loss_weight``: factor of the result."""

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, found: Tensor, target: Tensor, weights: Tensor, normaliser: Tensor) -> Tensor:
        """``found`` and ``target`` (..., n, k) and ``weights`` that broadcast to them, to (...)."""
        return ((found - target).abs() * weights).sum((-2, -1)) / normaliser * self.loss_weight


@register("GIoULoss")
class GIoULoss(nn.Module):
    """A name in RaCFormer's configs whose weight is 0; it is never computed."""

    def __init__(self, loss_weight: float = 0.0) -> None:
        super().__init__()
        if loss_weight != 0:
            raise ValueError(f"GIoULoss: loss_weight is {loss_weight}; only 0 is supported, as in RaCFormer.")
