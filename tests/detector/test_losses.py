"""The losses are mmdet's, divided by what the caller counted."""

from __future__ import annotations

import pytest
import torch

from racdino.detector import losses  # noqa: F401  (registers them)
from racdino.detector.registry import build


def test_focal_loss_is_mmdets_value_and_gradient():
    mmdet = pytest.importorskip("mmdet.models.losses", reason="mmdet is not installed")
    torch.manual_seed(0)
    logits = (torch.randn(40, 10) * 3).requires_grad_()
    labels = torch.randint(11, (40,))  # 10 is the background
    config = {"use_sigmoid": True, "gamma": 2.0, "alpha": 0.25, "loss_weight": 2.0}
    ours = build({"type": "FocalLoss", **config})(logits, labels, torch.tensor(7.0))
    expected = mmdet.FocalLoss(**config)(logits, labels, torch.ones(40), avg_factor=7.0)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (ours, expected)))


def test_focal_loss_is_finite_for_huge_logits_and_its_gradient_that_of_finite_differences():
    loss = build({"type": "FocalLoss"})
    assert loss(torch.tensor([[200.0, -200.0]]), torch.tensor([1]), torch.tensor(1.0)).isfinite()
    logits = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    one = torch.tensor(1.0, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: loss(x, torch.tensor([0, 1, 2, 3, 3]), one), logits)


def test_l1_loss_is_mmdets():
    mmdet = pytest.importorskip("mmdet.models.losses", reason="mmdet is not installed")
    torch.manual_seed(0)
    found, target, weights = torch.randn(6, 10), torch.randn(6, 10), torch.rand(10)
    ours = build({"type": "L1Loss", "loss_weight": 0.25})(found, target, weights, torch.tensor(3.0))
    expected = mmdet.L1Loss(loss_weight=0.25)(found, target, weights.expand(6, 10), avg_factor=3.0)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=0)


def test_a_loss_of_nothing_is_zero_and_can_be_differentiated():
    logits, codes = torch.zeros(0, 10, requires_grad=True), torch.zeros(0, 10, requires_grad=True)
    one = torch.tensor(1.0)
    total = build({"type": "FocalLoss"})(logits, torch.zeros(0, dtype=torch.int64), one)
    total = total + build({"type": "L1Loss"})(codes, torch.zeros(0, 10), torch.ones(10), one)
    total.backward()
    assert float(total) == 0


def test_what_is_not_supported_is_refused():
    with pytest.raises(ValueError, match="use_sigmoid=False is not supported"):
        build({"type": "FocalLoss", "use_sigmoid": False})
    with pytest.raises(ValueError, match="only 0 is supported"):
        build({"type": "GIoULoss", "loss_weight": 1.0})
    build({"type": "GIoULoss", "loss_weight": 0.0})
