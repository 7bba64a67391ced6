"""Depth classes against the bins' edges, block reductions against loops, focal loss against mmcv's and a loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from racdino.detector.depth_bins import (
    DepthBins,
    largest_of_block,
    nearest_of_block,
    rcs_one_hot,
    softmax_focal_loss,
)

BINS = DepthBins(1.0, 65.0, 96.0)


def test_widths_grow_linearly_from_near_to_far():
    step = 2 * (65 - 1) / (96 * 97)
    assert BINS.step == pytest.approx(0.0137457, abs=1e-7)
    edges = 1 + step * np.array([i * (i + 1) / 2 for i in range(97)])
    assert edges[-1] == pytest.approx(65)
    np.testing.assert_allclose(BINS.values().numpy(), [(i + 0.5) ** 2 * step / 2 - step / 8 + 1 for i in range(96)])
    middles = torch.tensor((edges[1:] + edges[:-1]) / 2)
    assert BINS.classes(middles).tolist() == list(range(96))
    assert BINS.classes(torch.tensor(edges[:-1] + 1e-6)).tolist() == list(range(96))
    assert BINS.classes(torch.tensor(edges[1:] - 1e-6)).tolist() == list(range(96))


def test_what_is_no_depth_in_range_is_the_last_class():
    outside = torch.tensor([0.0, 0.999, 65.0, 1e5, -3.0, math.nan, math.inf, -math.inf])
    assert BINS.classes(outside).tolist() == [96] * len(outside)
    assert BINS.classes(torch.tensor([1.0, 64.999])).tolist() == [0, 95]


def test_blocks_equal_loops():
    generator = torch.Generator().manual_seed(0)
    depth = torch.rand(2, 3, 8, 12, generator=generator) * 60
    depth[torch.rand(depth.shape, generator=generator) < 0.8] = 0
    values = torch.randn(2, 3, 8, 12, generator=generator)
    for index in np.ndindex(2, 3, 2, 3):
        block = (*index[:2], slice(index[2] * 4, index[2] * 4 + 4), slice(index[3] * 4, index[3] * 4 + 4))
        present = depth[block][depth[block] > 0]
        assert nearest_of_block(depth, 4)[index] == (present.min() if len(present) else 0)
        assert largest_of_block(values, 4)[index] == values[block].max()


@pytest.mark.parametrize(
    ("rcs", "expected"),
    [(-64.0, 0), (-62.1, 0), (-62.0, 1), (0.0, 32), (1.99, 32), (63.9, 63), (64.0, 63), (500.0, 63), (-80.0, 0)],
)
def test_rcs_bins_are_two_db_wide_and_values_beyond_count_for_the_outermost(rcs, expected):
    one_hot = rcs_one_hot(torch.full((1, 1, 1), rcs), torch.ones(1, 1, 1, dtype=torch.bool), (-64, 64, 64))
    assert one_hot.shape == (1, 64, 1, 1)
    assert one_hot.flatten().nonzero().tolist() == [[expected]]
    assert -64 + 2 * expected <= min(max(rcs, -64), 63.99) < -62 + 2 * expected


def test_pixels_without_radar_have_no_rcs_bin():
    assert not rcs_one_hot(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2, dtype=torch.bool), (-64, 64, 64)).any()
    nothing = rcs_one_hot(torch.full((1, 2, 2), -math.inf), torch.zeros(1, 2, 2, dtype=torch.bool), (-64, 64, 64))
    assert not nothing.any()


def test_focal_loss_equals_a_loop_in_float64():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 7, generator=generator) * 3
    classes = torch.randint(0, 7, (20,), generator=generator)
    expected = []
    for row, label in zip(logits.double().tolist(), classes.tolist(), strict=True):
        p = math.exp(row[label]) / sum(map(math.exp, row))
        expected.append(-0.25 * (1 - p) ** 2 * math.log(p))
    np.testing.assert_allclose(softmax_focal_loss(logits, classes).numpy(), expected, rtol=1e-4, atol=1e-7)


def test_focal_loss_without_focus_is_cross_entropy():
    logits, classes = torch.randn(20, 7), torch.randint(0, 7, (20,))
    expected = torch.nn.functional.cross_entropy(logits, classes, reduction="none")
    torch.testing.assert_close(softmax_focal_loss(logits, classes, alpha=1, gamma=0), expected)


@pytest.mark.cuda
def test_focal_loss_equals_mmcv():  # mmcv's softmax focal loss exists on CUDA only
    ops = pytest.importorskip("mmcv.ops")
    logits, classes = torch.randn(50, 12, device="cuda"), torch.randint(0, 12, (50,), device="cuda")
    expected = ops.softmax_focal_loss(logits, classes, 2.0, 0.25, None, "sum")
    torch.testing.assert_close(softmax_focal_loss(logits, classes).sum(), expected, rtol=1e-4, atol=1e-4)


def test_gradient_of_the_focal_loss_matches_finite_differences():
    logits = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: softmax_focal_loss(x, torch.tensor([0, 1, 4, 2])), logits)
