"""The finest map by products equals a transposed convolution and a bilinear resize, and keeps constants."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from racdino.backbones.finest_map import doubled_and_shrunk, shrinking

CPU = torch.device("cpu")


@pytest.mark.parametrize("height", [1, 2, 7, 8])
@pytest.mark.parametrize("width", [1, 5, 6])
def test_equals_the_transposed_convolution_resized(height, width):
    torch.manual_seed(0)
    tokens = torch.randn(2, (height + 1) // 2, (width + 1) // 2, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 5, 2, 2, dtype=torch.float64, requires_grad=True)
    doubled = F.conv_transpose2d(tokens.permute(0, 3, 1, 2), weight, stride=2)
    expected = F.interpolate(doubled, (height, width), mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
    got = doubled_and_shrunk(tokens, weight, *shrinking(height, width, torch.float64, CPU))
    upstream = torch.randn_like(expected)
    gradients = [torch.autograd.grad(output, (tokens, weight), upstream) for output in (got, expected)]
    for mine, other in ((got, expected), *zip(*gradients, strict=True)):
        assert (mine - other).abs().max() <= 1e-13 * other.abs().max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_constant_stays_exactly_that_in_every_dtype(dtype):
    """The two weights of every pixel are rounded together: apart, they would darken or brighten whole rows."""
    for matrix in shrinking(67, 179, dtype, CPU):
        assert matrix.dtype == dtype
        assert torch.equal(matrix.double().sum(1), torch.ones(len(matrix), dtype=torch.float64))
        exact, _ = shrinking(len(matrix), 1, torch.float64, CPU)
        assert (matrix.double() - exact).abs().max() <= torch.finfo(dtype).eps / 4
