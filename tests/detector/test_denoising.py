"""Denoising queries: the noise's bounds and what depends on what."""

from __future__ import annotations

import math

import pytest
import torch
from small_head import RANGE, keyed, make_targets

from racdino.detector.decoder.coordinates import Coordinates, code_from_boxes
from racdino.detector.denoising import make_denoising_queries

COORDINATES = Coordinates.of(RANGE)


def make(boxes, labels, *keys, groups=10):
    return make_denoising_queries(boxes, labels, groups, 4, COORDINATES, keyed(*keys))


def test_noise_keeps_to_the_specified_bounds_and_fills_them():
    box = torch.tensor([[20.0, -30.0, -1.0, 4.0, 3.0, 2.0, 0.7, 1.0, -2.0]], dtype=torch.float64)
    queries = make([box], [torch.tensor([2])], 5, groups=4000)
    clean = COORDINATES.query_from_code(code_from_boxes(box))
    shift = queries.boxes[0] - clean
    diagonal, d = 5.0, math.hypot(20, 30) / 65
    bounds = [diagonal / (2 * math.pi * d * 65) / 2 * 0.5 * d, diagonal / 130 * 0.5, 2.0 / 16 * 0.5]
    for axis, bound in enumerate(bounds):
        assert shift[:, axis].abs().max() <= bound
        assert shift[:, axis].min() < -0.99 * bound
        assert shift[:, axis].max() > 0.99 * bound
        assert abs(float(shift[:, axis].mean())) < 0.05 * bound
    assert float(shift[:, 3:].abs().max()) == 0
    assert torch.corrcoef(shift[:, :3].T).fill_diagonal_(0).abs().max() < 0.08
    # Half of the labels are drawn anew, one in four of these hits the true one.
    assert float((queries.labels[0] != 2).double().mean()) == pytest.approx(0.375, abs=0.03)
    assert queries.target_labels.eq(2).all()
    torch.testing.assert_close(queries.targets[0, 0], code_from_boxes(box)[0])


def test_angles_wrap_and_what_leaves_the_range_is_clamped():
    box = torch.tensor([[30.0, 0.0, -5.5, 12.0, 3.0, 4.0, 0, 0, 0], [50.9, 50.9, 3.5, 12, 3, 4, 0, 0, 0]])
    boxes = make([box.double()], [torch.tensor([0, 1])], 5, groups=200).boxes[0]
    assert float(boxes[:, :3].min()) >= 0
    assert float(boxes[:, :3].max()) <= 1
    theta = boxes[::2, 0]
    assert (theta > 0.9).any()
    assert (theta < 0.1).any()


def test_a_samples_noise_does_not_depend_on_the_rest_of_the_batch():
    boxes, labels = make_targets((2, 5))
    both = make(boxes, labels, 7, 8, groups=3)
    alone = make(boxes[:1], labels[:1], 7, groups=3)
    assert both.filled[0].view(3, 5).tolist() == [[True, True, False, False, False]] * 3
    assert torch.equal(both.boxes[0][both.filled[0]], alone.boxes[0])
    assert torch.equal(both.labels[0][both.filled[0]], alone.labels[0])
    names = both.query_ids(24)[:15][both.filled[0]]
    assert torch.equal(names, alone.query_ids(24)[:6])
    assert len(set(both.query_ids(24).tolist())) == 39
    assert both.query_ids(24)[15:].tolist() == list(range(24))


def test_the_mask_is_that_of_the_rules():
    boxes, labels = make_targets((1, 2))
    hidden = make(boxes, labels, 7, 8, groups=2).hidden(3)
    for b, count in enumerate((1, 2)):
        for row in range(7):
            for column in range(7):
                if column >= 4:
                    expected = False  # everybody sees ordinary queries
                elif row >= 4:
                    expected = True  # ordinary queries see no other
                else:
                    expected = row // 2 != column // 2 or column % 2 >= count
                assert hidden[b, row, column].item() is expected


def test_unknown_velocities_start_as_zero():
    boxes, labels = make_targets((2,))
    boxes[0][0, 7] = float("nan")
    queries = make(boxes, labels, 1)
    assert queries.boxes.isfinite().all()
    assert queries.targets[0, 0, 8].isnan()


def test_a_batch_without_objects_has_no_denoising_queries():
    queries = make(*make_targets((0, 0)), 1, 2)
    assert queries.boxes.shape == (2, 0, 10)
    assert queries.hidden(5).shape == (2, 5, 5)
    assert queries.query_ids(5).tolist() == [0, 1, 2, 3, 4]
