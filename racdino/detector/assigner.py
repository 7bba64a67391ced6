"""One query for each object: the assignment with the smallest total cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from racdino.detector import match_costs  # noqa: F401  (registers the costs)
from racdino.detector.registry import build, register

IMPOSSIBLE = 100.0  # a cost that is no number


@register("PolarHungarianAssigner3D")
class PolarHungarianAssigner3D:
    """Hungarian assignment over class, box and azimuth.

    Args:
        cls_cost, reg_cost, theta_cost, iou_cost: configs of `match_costs`. pc_range: accepted and unused.

    Source: RaCFormer, arXiv:2412.12725, section 3.2; DETR, arXiv:2005.12872, section 3.1.
    """

    def __init__(
        self,
        cls_cost: Mapping[str, Any],
        reg_cost: Mapping[str, Any],
        theta_cost: Mapping[str, Any],
        iou_cost: Mapping[str, Any] | None = None,
        pc_range: object = None,
    ) -> None:
        self.cls_cost = build(cls_cost)
        self.reg_cost = build(reg_cost)
        self.theta_cost = build(theta_cost)
        if iou_cost is not None:
            build(iou_cost)  # says so if it is given a weight

    @torch.no_grad()
    def cost(self, codes: Tensor, logits: Tensor, targets: Tensor, labels: Tensor, code_weights: Tensor) -> Tensor:
        """(Q, n) costs of (Q, 10) box codes and (Q, classes) logits for (n, 10) targets and (n,) labels."""
        return (
            self.cls_cost(logits, labels)
            + self.reg_cost(codes * code_weights, targets * code_weights)
            + self.theta_cost(codes[:, :2], targets[:, :2])
        )

    def assign(
        self, codes: Tensor, logits: Tensor, targets: Tensor, labels: Tensor, code_weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Pairs of (query, object), min(Q, n) of each as int64 on the device of ``codes``; see `cost`.

        Costs that are no finite number count as +-100: an assignment needs numbers, and the loss shows the trouble.
        """
        cost = self.cost(codes, logits, targets, labels, code_weights)
        cost = torch.nan_to_num(cost, nan=IMPOSSIBLE, posinf=IMPOSSIBLE, neginf=-IMPOSSIBLE)
        rows, columns = linear_sum_assignment(cost.cpu().numpy())
        return torch.as_tensor(rows, device=codes.device), torch.as_tensor(columns, device=codes.device)
