"""The finest map equals a transposed convolution and a bilinear resize, and keeps constants."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from racdino.backbones.finest_map import doubled_and_shrunk, places


def places_of(height, width, dtype):
    return [places(side, dtype, torch.device("cpu")) for side in (height, width)]


@pytest.mark.parametrize("height", [1, 2, 7, 8])
@pytest.mark.parametrize("width", [1, 5, 6])
def test_equals_the_transposed_convolution_resized(height, width):
    torch.manual_seed(0)
    tokens = torch.randn(2, (height + 1) // 2, (width + 1) // 2, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 5, 2, 2, dtype=torch.float64, requires_grad=True)
    doubled = F.conv_transpose2d(tokens.permute(0, 3, 1, 2), weight, stride=2)
    expected = F.interpolate(doubled, (height, width), mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
    got = doubled_and_shrunk(tokens, weight, *places_of(height, width, torch.float64))
    upstream = torch.randn_like(expected)
    gradients = [torch.autograd.grad(output, (tokens, weight), upstream) for output in (got, expected)]
    for mine, other in ((got, expected), *zip(*gradients, strict=True)):
        assert (mine - other).abs().max() <= 1e-13 * other.abs().max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_constant_stays_exactly_that_in_every_dtype(dtype):
    """The weights of a pixel's neighbours must add up to one: else they would darken or brighten whole rows."""
    if dtype == torch.float16 and not hasattr(torch, "compiler"):
        pytest.skip("torch 2.0 multiplies no float16 matrices on a CPU")
    tokens = torch.full((1, 34, 90, 1), 0.7109375, dtype=dtype)
    found = doubled_and_shrunk(tokens, torch.ones(1, 1, 2, 2, dtype=dtype), *places_of(67, 179, dtype))
    assert found.shape == (1, 67, 179, 1)
    assert (found == 0.7109375).all()
