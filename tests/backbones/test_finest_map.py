"""The finest map is a transposed convolution, resized and added, and keeps constants."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F

from racdino.backbones.finest_map import add_doubled

GPU = pytest.param("cuda", marks=pytest.mark.cuda)
DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]


def transposed_resized_and_added(tokens, weight, added):
    doubled = F.conv_transpose2d(tokens.permute(0, 3, 1, 2), weight, stride=2)
    resized = F.interpolate(doubled, added.shape[1:3], mode="bilinear", align_corners=False)
    return added + resized.permute(0, 2, 3, 1)


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("height", [1, 2, 7, 8])
@pytest.mark.parametrize("width", [1, 5, 6])
@pytest.mark.parametrize("channels", [5, 8])
def test_equals_the_transposed_convolution_resized_and_added(device, height, width, channels):
    """On a GPU the operator serves 8 channels, and plain torch 5."""
    torch.manual_seed(0)
    shapes = (2, (height + 1) // 2, (width + 1) // 2, 3), (3, channels, 2, 2), (2, height, width, channels)
    leaves = [torch.randn(*shape, dtype=torch.float64, device=device).requires_grad_() for shape in shapes]
    expected = transposed_resized_and_added(*leaves)
    got = add_doubled(*leaves)
    upstream = torch.randn_like(expected)
    gradients = [torch.autograd.grad(output, leaves, upstream) for output in (got, expected)]
    for mine, other in ((got, expected), *zip(*gradients, strict=True)):
        assert (mine - other).abs().max() <= 1e-13 * other.abs().max()


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_constant_stays_exactly_that_in_every_dtype(device, dtype):
    """The weights of a pixel's neighbours must add up to one: else they would darken or brighten whole rows."""
    if device == "cpu" and dtype == torch.float16 and not hasattr(torch, "compiler"):
        pytest.skip("torch 2.0 multiplies no float16 matrices on a CPU")
    tokens = torch.full((1, 34, 90, 1), 0.7109375, dtype=dtype, device=device)
    added = torch.zeros(1, 67, 179, 8, dtype=dtype, device=device)
    found = add_doubled(tokens, torch.ones(1, 8, 2, 2, dtype=dtype, device=device), added)
    assert found.shape == (1, 67, 179, 8)
    assert (found == 0.7109375).all()


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_another_dtype_of_what_is_added_is_raised_as_in_torch(device):
    torch.manual_seed(0)
    tokens = torch.randn(1, 2, 2, 8, dtype=torch.bfloat16, device=device)
    weight = torch.randn(8, 8, 2, 2, dtype=torch.bfloat16, device=device)
    added = torch.randn(1, 3, 3, 8, device=device)
    found = add_doubled(tokens, weight, added)
    assert found.dtype == torch.float32
    expected = transposed_resized_and_added(tokens.double(), weight.double(), added.double())
    assert (found - expected).abs().max() <= 2**-6 * expected.abs().max()


@pytest.mark.cuda
def test_a_trace_on_a_gpu_sees_plain_torch_only():
    added, tokens = torch.randn(1, 3, 3, 8, device="cuda"), torch.randn(1, 2, 2, 8, device="cuda")
    weight = torch.randn(8, 8, 2, 2, device="cuda")
    traced = torch.jit.trace(lambda *tensors: add_doubled(*tensors), (tokens, weight, added))
    assert not {"^_Weave", "racdino::weave"} & set(re.findall(r"\^\w+|\w+::\w+", str(traced.inlined_graph)))
    torch.testing.assert_close(traced(tokens, weight, added), add_doubled(tokens, weight, added))
