"""Box rows, box codes and query boxes describe the same box."""

from __future__ import annotations

import math

import pytest
import torch

from racdino.detector.decoder.coordinates import Coordinates, boxes_from_code, code_from_boxes

NUSCENES = Coordinates.of([-51.2, -51.2, -5.0, 51.2, 51.2, 3.0])
LOPSIDED = Coordinates.of([-20.0, -10.0, -2.0, 60.0, 30.0, 4.0])


def random_boxes(count: int, coordinates: Coordinates) -> torch.Tensor:
    torch.manual_seed(0)
    boxes = torch.rand(count, 9, dtype=torch.float64)
    low, high = torch.tensor(coordinates.pc_range, dtype=torch.float64).view(2, 3)
    boxes[:, :3] = low + boxes[:, :3] * (high - low)
    boxes[:, 3:6] = 0.3 + 5 * boxes[:, 3:6]
    boxes[:, 6] = (boxes[:, 6] * 2 - 1) * math.pi
    boxes[:, 7:] = boxes[:, 7:] * 20 - 10
    return boxes


@pytest.mark.parametrize("coordinates", [NUSCENES, LOPSIDED], ids=["nuscenes", "lopsided"])
def test_box_code_query_and_back_is_the_identity(coordinates):
    boxes = random_boxes(200, coordinates)
    query = coordinates.query_from_code(code_from_boxes(boxes))
    assert float(query[:, 0].min()) >= 0
    assert float(query[:, 0].max()) < 1
    torch.testing.assert_close(boxes_from_code(coordinates.code_from_query(query)), boxes, rtol=1e-10, atol=1e-10)


def test_the_published_range_has_65_metres_at_d_1():
    assert NUSCENES.radius == 65.0
    polar = torch.tensor([[0.0, 0.5], [0.25, 0.5], [0.5, 0.1], [0.875, 0.4]], dtype=torch.float64)
    diagonal = 26 / math.sqrt(2)
    expected = torch.tensor([[32.5, 0.0], [0.0, 32.5], [-6.5, 0.0], [diagonal, -diagonal]], dtype=torch.float64)
    torch.testing.assert_close(NUSCENES.metres_from_polar(polar), expected)
    torch.testing.assert_close(NUSCENES.polar_from_metres(expected), polar)


def test_what_lies_outside_the_range_is_moved_to_its_border():
    assert NUSCENES.metres_from_polar(torch.tensor([0.125, 1.0])).tolist() == pytest.approx([65 / 2**0.5] * 2)
    assert NUSCENES.metres_from_polar(torch.tensor([0.0, 1.0])).tolist() == pytest.approx([51.2, 0.0], abs=1e-4)


def test_a_point_on_the_car_has_no_nan_and_no_nan_gradient():
    xy = torch.zeros(3, 2, requires_grad=True)
    polar = NUSCENES.polar_from_metres(xy)
    assert polar.tolist() == [[0, 0]] * 3
    polar.sum().backward()
    assert xy.grad is not None
    assert xy.grad.isfinite().all()


def test_conversions_have_the_gradients_of_finite_differences():
    code = code_from_boxes(random_boxes(5, LOPSIDED)).requires_grad_()
    assert torch.autograd.gradcheck(LOPSIDED.query_from_code, code)
    query = LOPSIDED.query_from_code(code).detach().requires_grad_()
    assert torch.autograd.gradcheck(LOPSIDED.code_from_query, query)
    assert torch.autograd.gradcheck(boxes_from_code, code)


def test_a_box_code_worked_out_by_hand():
    box = torch.tensor([10.0, -4.0, -1.0, math.e, 1.0, 2.0, math.pi / 6, 3.0, float("nan")])
    code = code_from_boxes(box)
    assert code[:9].tolist() == pytest.approx([10, -4, 1, 0, 0, math.log(2), 0.5, math.sqrt(3) / 2, 3], abs=1e-6)
    assert code[9].isnan()


@pytest.mark.parametrize("pc_range", [[0, 0, 0, 1, 1, 1], [-1, -1, 1, 1], [-1, -1, -1, -2, 1, 1]], ids=str)
def test_a_range_without_the_car_is_refused(pc_range):
    with pytest.raises(ValueError, match="it must be x, y, z low"):
        Coordinates.of(pc_range)
