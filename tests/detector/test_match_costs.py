"""Matching costs are mmdet's where mmdet has them, and worked out by hand where not."""

from __future__ import annotations

import pytest
import torch

from racdino.detector import match_costs  # noqa: F401  (registers them)
from racdino.detector.registry import build


def test_focal_cost_is_mmdets():
    mmdet = pytest.importorskip("mmdet.core.bbox.match_costs", reason="mmdet is not installed")
    torch.manual_seed(0)
    logits, labels = torch.randn(30, 10) * 3, torch.randint(10, (5,))
    ours = build({"type": "FocalLossCost", "weight": 2.0})(logits, labels)
    torch.testing.assert_close(ours, mmdet.FocalLossCost(weight=2.0)(logits, labels))


def test_box_cost_is_the_sum_of_absolute_differences():
    torch.manual_seed(0)
    codes, targets = torch.randn(4, 10), torch.randn(3, 10)
    cost = build({"type": "BBox3DL1Cost", "weight": 0.25})(codes, targets)
    for row in range(4):
        for column in range(3):
            expected = 0.25 * sum(abs(float(a) - float(b)) for a, b in zip(codes[row], targets[column], strict=True))
            assert float(cost[row, column]) == pytest.approx(expected, rel=1e-5)


def test_angles_are_compared_the_short_way_round():
    xy = torch.tensor([[10.0, 0.0], [0.0, 5.0], [-1.0, -1e-4], [3.0, -3.0]])
    targets = torch.tensor([[-7.0, 0.0], [2.0, 2.0]])
    cost = build({"type": "ThetaL1Cost", "weight": 3.0})(xy, targets)
    expected = torch.tensor([[0.5, 0.125], [0.25, 0.125], [0.0, 0.375], [0.375, 0.25]]) * 3
    torch.testing.assert_close(cost, expected, rtol=0, atol=1e-4)


def test_the_iou_cost_may_only_have_weight_zero():
    build({"type": "IoUCost", "weight": 0.0})
    with pytest.raises(ValueError, match="only 0 is supported"):
        build({"type": "IoUCost", "weight": 1.0})
