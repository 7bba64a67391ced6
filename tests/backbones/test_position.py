"""Position embeddings are resized as DINOv2 does it: checked against the formula, written out in float64."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from racdino.backbones import DinoVisionTransformer
from racdino.backbones.position import resize_position_grid


def cubic(x, a):
    """Keys' kernel; torch takes a = -0.75, and -0.5 with antialias."""
    x = abs(x)
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def plain_row(index, source, scale):
    """Weights of the source cells for one target cell; `scale` is target/source, cells outside repeat the border."""
    centre = (index + 0.5) / scale - 0.5
    row = [0.0] * source
    for cell in range(math.floor(centre) - 1, math.floor(centre) + 3):
        row[min(max(cell, 0), source - 1)] += cubic(centre - cell, -0.75)
    return row


def antialiased_row(index, source, scale):
    """The kernel is widened when shrinking, cut off at the border and normalised."""
    stretch = max(1 / scale, 1.0)
    centre = (index + 0.5) / scale
    row = [
        cubic((cell + 0.5 - centre) / stretch, -0.5) if abs(cell + 0.5 - centre) < 2 * stretch else 0.0
        for cell in range(source)
    ]
    return [weight / sum(row) for weight in row]


def expected_grid(table, height, width, offset, antialias):
    rows, columns, _ = table.shape
    make_row = antialiased_row if antialias else plain_row
    down = torch.tensor([make_row(i, rows, (height + offset) / rows) for i in range(height)], dtype=torch.float64)
    across = torch.tensor([make_row(j, columns, (width + offset) / columns) for j in range(width)], dtype=torch.float64)
    return torch.einsum("hi,wj,ijc->hwc", down, across, table.double())


SIZES = [(19, 51), (16, 16), (37, 40), (18, 50), (5, 74), (37, 37)]


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize(
    ("offset", "antialias"), [(0.1, False), (0.0, True), (0.0, False)], ids=["plain", "registers", "adapter"]
)
def test_grid_equals_the_formula(height, width, offset, antialias):
    table = torch.randn(37, 37, 6, generator=torch.Generator().manual_seed(0))
    expected = expected_grid(table, height, width, offset, antialias)
    if (height, width) == (37, 37):
        expected = table.double()  # the trained grid is used as it is, also with an offset
    resized = resize_position_grid(table, height, width, offset, antialias)
    assert resized.dtype == torch.float32
    assert (resized - expected).abs().max() <= 1e-6 * expected.abs().max()


@pytest.mark.parametrize(("height", "width"), SIZES[:-1])
@pytest.mark.parametrize("registers", [0, 4])
def test_model_adds_what_torch_interpolates_in_float32(height, width, registers):
    """The official call: scale_factor with 0.1 for the plain models, size and antialias for the register models."""
    torch.manual_seed(0)
    model = DinoVisionTransformer(
        518, 14, 8, 1, 2, num_register_tokens=registers,
        interpolate_antialias=registers > 0, interpolate_offset=0.0 if registers else 0.1,
    )  # fmt: skip
    table = model.pos_embed[:, 1:].unflatten(1, (37, 37)).permute(0, 3, 1, 2)
    if registers:
        official = F.interpolate(table, size=(height, width), mode="bicubic", antialias=True)
    else:
        official = F.interpolate(table, scale_factor=((height + 0.1) / 37, (width + 0.1) / 37), mode="bicubic")
    image = torch.randn(1, 3, 14 * height, 14 * width)
    tokens = model.prepare_tokens_with_masks(image)[:, 1 + registers :] - model.patch_embed(image)
    assert (tokens - official.flatten(2).transpose(1, 2)).abs().max() <= 2e-6


@pytest.mark.parametrize(("offset", "antialias"), [(0.1, False), (0.0, True)])
def test_gradient_matches_finite_differences(offset, antialias):
    table = torch.randn(5, 5, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: resize_position_grid(t, 3, 7, offset, antialias), table)


def test_every_change_of_the_parameter_is_seen():
    """Also those that do not count as changes for autograd, such as writing through .data as weight averaging does."""
    model = DinoVisionTransformer(56, 14, 8, 1, 2).eval()
    image = torch.zeros(1, 3, 28, 42)
    with torch.no_grad():
        before = model(image)
        model.pos_embed.data.normal_()
        assert not torch.equal(before, model(image))
        again = model(image)
        model.load_state_dict({**model.state_dict(), "pos_embed": torch.randn_like(model.pos_embed)})
        assert not torch.equal(again, model(image))


def test_autocast_does_not_round_the_weights():
    table = torch.randn(37, 37, 6)
    with torch.autocast("cpu", torch.bfloat16):
        inside = resize_position_grid(table, 19, 51)
    assert torch.equal(inside, resize_position_grid(table, 19, 51))
