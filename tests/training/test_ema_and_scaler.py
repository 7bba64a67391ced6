"""The average follows its formula, and scaled losses give the gradients of unscaled ones or no step at all."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from racdino.training.ema import ExponentialAverage
from racdino.training.loss_scaler import LossScaler


def test_the_average_is_the_formula_computed_by_hand():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).double()
    average = ExponentialAverage(model, decay=0.9, ramp=5)
    expected = None
    for update in range(20):
        with torch.no_grad():
            model[0].weight.add_(1)
            model[1].running_mean.add_(1)
            model[1].num_batches_tracked.add_(1)
        average.update_parameters(model)
        d = 0.9 * (1 - math.exp(-update / 5))
        expected = model[0].weight.detach().clone() if expected is None else d * expected + (1 - d) * model[0].weight
    torch.testing.assert_close(average.module[0].weight, expected, rtol=1e-12, atol=0)
    assert average.module[1].running_mean.tolist() == [20, 20]  # copied
    assert average.module[1].num_batches_tracked == 20
    assert not average.module.training


@pytest.mark.parametrize("scale", [1.0, 512.0, 2.0**16])
def test_scaling_by_a_power_of_two_changes_no_gradient(scale):
    weight = nn.Parameter(torch.tensor([0.3, -2.0]))
    (weight**3).sum().backward()
    expected = weight.grad.clone()
    weight.grad = None
    scaler = LossScaler(scale)
    scaler.backward((weight**3).sum())
    norm = scaler.unscale([weight])
    assert torch.equal(weight.grad, expected)
    assert norm == pytest.approx(float(expected.norm()))


def test_clipping_is_by_the_true_norm():
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    scaler = LossScaler(512)
    scaler.backward((weight * torch.tensor([3.0, 4.0])).sum())
    assert scaler.unscale([weight], max_norm=1.0) == pytest.approx(5)
    torch.testing.assert_close(weight.grad.norm(), torch.tensor(1.0))


def test_a_dynamic_scale_halves_after_a_bad_step_and_doubles_after_2000_good_ones():
    scaler = LossScaler(4, dynamic=True)
    scaler.update(False)
    assert (scaler.scale, scaler.skipped_in_a_row) == (2, 1)
    for _ in range(1999):
        scaler.update(True)
    resumed = LossScaler(4, dynamic=True)
    resumed.load_state_dict(scaler.state_dict())
    assert resumed.scale == 2
    resumed.update(True)
    assert (resumed.scale, resumed.skipped_in_a_row) == (4, 0)
    static = LossScaler(512)
    static.update(False)
    assert static.scale == 512
