"""One query for each object: the assignment with the smallest total cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from racdino.detector import match_costs  # noqa: F401  (registers the costs)
from racdino.detector.registry import build, register

IMPOSSIBLE = 100.0  # a cost that is no number


class Pairs(NamedTuple):
    """Who was given what: n = layers * m entries of int64, layer after layer, each with the same number m.

    layer, sample, query: (n,) each. target: (n,) numbers of the samples' targets, counted through all samples.
    """

    layer: Tensor
    sample: Tensor
    query: Tensor
    target: Tensor


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
        """(..., Q, n) costs of (..., Q, 10) box codes and (..., Q, classes) logits for (n, 10) targets, (n,) labels."""
        return (
            self.cls_cost(logits, labels)
            + self.reg_cost(codes * code_weights, targets * code_weights)
            + self.theta_cost(codes[..., :2], targets[:, :2])
        )

    def assign(
        self,
        codes: Tensor,
        logits: Tensor,
        targets: Sequence[Tensor],
        labels: Sequence[Tensor],
        code_weights: Tensor,
    ) -> Pairs:
        """The pairs of all layers and samples at once, so that the device is waited for once; see `cost`.

        Costs that are no finite number count as +-100: an assignment needs numbers, and the loss shows the trouble.

        Args:
            codes: (layers, B, Q, 10). logits: (layers, B, Q, classes). targets, labels: per sample (n, 10) and (n,).

        Returns:
            min(Q, n) pairs for each layer and sample.
        """
        costs = [
            self.cost(codes[:, sample], logits[:, sample], *of_sample, code_weights)
            for sample, of_sample in enumerate(zip(targets, labels, strict=True))
        ]
        on_host = torch.cat([cost.flatten() for cost in costs]).cpu()
        on_host = torch.nan_to_num(on_host, nan=IMPOSSIBLE, posinf=IMPOSSIBLE, neginf=-IMPOSSIBLE)
        parts = on_host.split([cost.numel() for cost in costs])
        matrices = [part.view(cost.shape).numpy() for part, cost in zip(parts, costs, strict=True)]
        first = np.cumsum([0, *(len(of_sample) for of_sample in labels)])
        pairs = []
        for layer in range(len(codes)):
            for sample, matrix in enumerate(matrices):
                query, target = linear_sum_assignment(matrix[layer])
                pairs.append(
                    np.stack([np.full_like(query, layer), np.full_like(query, sample), query, target + first[sample]])
                )
        return Pairs(*torch.from_numpy(np.concatenate(pairs, axis=1)).to(codes.device))
