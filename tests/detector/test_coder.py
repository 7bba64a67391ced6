"""Decoding against boxes worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from racdino.detector.coder import NMSFreeCoder

RANGE = [-61.2, -61.2, -10.0, 61.2, 61.2, 10.0]


def code(x=0.0, y=0.0, z=0.0, yaw=0.0):
    return [x, y, math.log(4), math.log(2), z, math.log(1.5), math.sin(yaw), math.cos(yaw), 3.0, -1.0]


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_the_best_pairs_of_query_and_class_come_first_with_their_boxes():
    codes = torch.tensor([code(10, 5, 1, 0.5), code(-20, 2, -1, -3)])
    logits = torch.tensor([[logit(0.3), logit(0.9), logit(0.01)], [logit(0.6), logit(0.04), logit(0.02)]])
    boxes, scores, labels = NMSFreeCoder(RANGE, 300, 0.05, num_classes=3).decode(logits, codes)
    assert scores.tolist() == pytest.approx([0.9, 0.6, 0.3])
    assert labels.tolist() == [1, 0, 0]
    first = [10, 5, 1 - 0.75, 4, 2, 1.5, 0.5, 3, -1]  # the height is that of the bottom
    assert boxes[0].tolist() == pytest.approx(first, abs=1e-5)
    assert boxes[1].tolist() == pytest.approx([-20, 2, -1.75, 4, 2, 1.5, -3, 3, -1], abs=1e-5)
    assert torch.equal(boxes[2], boxes[0])


def test_boxes_whose_centre_is_out_of_range_are_dropped():
    codes = torch.tensor([code(61.3), code(61.1), code(y=-61.3), code(z=-10.5), code(z=10.2)])
    boxes, *_ = NMSFreeCoder(RANGE, 300, 0.05, num_classes=1).decode(torch.zeros(5, 1), codes)
    assert boxes[:, 0].tolist() == pytest.approx([61.1])


def test_no_more_than_max_num_pairs_are_looked_at():
    torch.manual_seed(0)
    coder = NMSFreeCoder(RANGE, 7, None, num_classes=3)
    logits = torch.randn(10, 3)
    detections = coder.decode(logits, torch.tensor([code()] * 10))
    assert detections.scores.tolist() == pytest.approx(sorted(logits.sigmoid().flatten().tolist())[::-1][:7])


def test_nothing_above_the_threshold_is_no_detection():
    detections = NMSFreeCoder(RANGE, 300, 0.05, num_classes=1).decode(torch.full((4, 1), -9.0), torch.zeros(4, 10))
    assert [tuple(part.shape) for part in detections] == [(0, 9), (0,), (0,)]


@pytest.mark.parametrize("what", ["scores", "boxes"])
def test_numbers_that_are_not_finite_are_named_and_not_dropped(what):
    logits, codes = torch.zeros(2, 1), torch.tensor([code()] * 2)
    (logits if what == "scores" else codes)[1] = float("nan")
    with pytest.raises(FloatingPointError, match=f"{what} are not finite"):
        NMSFreeCoder(RANGE, 300, 0.05, num_classes=1).decode(logits, codes)
