"""Queries start on rings, ray after ray."""

from __future__ import annotations

import math

import pytest
import torch

from racdino.detector.decoder.coordinates import Coordinates
from racdino.detector.decoder.queries import place_queries


def test_900_queries_stand_on_six_rings_of_150_ray_after_ray():
    boxes = torch.randn(900, 10)
    kept = boxes[:, [3, 4, 6, 7]].clone()
    place_queries(boxes, 6)
    for index in (0, 1, 5, 6, 450, 899):
        ray, ring = divmod(index, 6)
        assert boxes[index, :3].tolist() == pytest.approx([ray / 150, (ring + 1) / 7, 0.5])
    assert boxes[:, 5].tolist() == pytest.approx([0.2] * 900)
    assert not boxes[:, 8:].any()
    assert torch.equal(boxes[:, [3, 4, 6, 7]], kept)


def test_the_rings_are_9_to_56_metres_away():
    boxes = torch.zeros(900, 10)
    place_queries(boxes, 6)
    xy = Coordinates.of([-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]).metres_from_polar(boxes[:6, :2].double())
    # On ray 0 the outermost ring lies beyond the range's border at 51.2 m.
    assert [math.hypot(x, y) for x, y in xy.tolist()] == pytest.approx(
        [9.2857, 18.5714, 27.8571, 37.1429, 46.4286, 51.2], abs=1e-3
    )


def test_queries_that_do_not_divide_into_rings_are_refused():
    with pytest.raises(ValueError, match="num_query 100 does not divide into num_clusters 6"):
        place_queries(torch.zeros(100, 10), 6)
