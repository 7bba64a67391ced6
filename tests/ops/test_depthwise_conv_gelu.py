"""Depthwise convolution of a pyramid's tokens and GELU equals its definition in float64, forward and backward."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from racdino.ops import depthwise_conv_gelu

PYRAMID = [(17, 45), (9, 23), (5, 12)]
SIZES = {
    "pyramid": PYRAMID,
    "lines and a point": [(1, 7), (9, 1), (1, 1)],
    "one level": [(6, 50)],
    "eight levels": [(2, 3), (3, 2), (1, 1), (4, 4), (5, 1), (1, 30), (13, 2), (2, 25)],
}
# Error in the norm. 16 bits: one rounding at the end forward, and backward one of the gradient before GELU too.
LIMITS = {torch.float64: 1e-13, torch.float32: 3e-6, torch.float16: 5e-4, torch.bfloat16: 4e-3}
CASES = [(x, p) for x in LIMITS for p in {x, torch.float64 if x == torch.float64 else torch.float32}]


def by_definition(x: Tensor, weight: Tensor, bias: Tensor, sizes) -> Tensor:
    levels = x.split([height * width for height, width in sizes], dim=1)
    results = []
    for level, (height, width) in zip(levels, sizes, strict=True):
        padded = F.pad(level.unflatten(1, (height, width)), (0, 0, 1, 1, 1, 1))
        shifted = [padded[:, i : i + height, j : j + width] * weight[:, 0, i, j] for i in range(3) for j in range(3)]
        results.append((sum(shifted) + bias).flatten(1, 2))
    z = torch.cat(results, dim=1)
    return z * (1 + torch.erf(z / 2**0.5)) / 2


def inputs(sizes, batch=2, channels=6, dtype=torch.float32, parameter_dtype=None, device="cpu"):
    """x, weight, bias and an upstream gradient."""
    generator = torch.Generator().manual_seed(0)
    tokens = sum(height * width for height, width in sizes)
    shapes = {"x": (batch, tokens, channels), "weight": (channels, 1, 3, 3), "bias": (channels,)}
    dtypes = {"x": dtype, "weight": parameter_dtype or dtype, "bias": parameter_dtype or dtype}
    leaves = [
        (torch.randn(shape, generator=generator, dtype=torch.float64) * (0.4 if name == "weight" else 1))
        .to(device, dtypes[name])
        .requires_grad_()
        for name, shape in shapes.items()
    ]
    upstream = torch.randn(shapes["x"], generator=generator, dtype=torch.float64).to(device, dtype)
    return leaves, upstream


def run(function, leaves, upstream, sizes):
    y = function(*leaves, sizes)
    return [y.detach(), *torch.autograd.grad(y, leaves, upstream)]


def in_float64(leaves, upstream, sizes):
    leaves = [leaf.detach().double().cpu().requires_grad_() for leaf in leaves]
    return run(by_definition, leaves, upstream.double().cpu(), sizes)


def error(actual: Tensor, expected: Tensor) -> float:
    return float((actual.double().cpu() - expected).norm() / expected.norm())


@pytest.mark.cuda
@pytest.mark.parametrize(("dtype", "parameter_dtype"), CASES)
@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize(("batch", "channels"), [(1, 96), (3, 192), (1, 384), (3, 2)])
def test_operator_is_the_definition(name, batch, channels, dtype, parameter_dtype):
    sizes = SIZES[name]
    leaves, upstream = inputs(sizes, batch, channels, dtype, parameter_dtype, "cuda")
    results = run(depthwise_conv_gelu, leaves, upstream, sizes)
    for actual, expected, like in zip(results, in_float64(leaves, upstream, sizes), [upstream, *leaves], strict=True):
        assert (actual.shape, actual.dtype) == (like.shape, like.dtype)
        assert error(actual, expected) <= LIMITS[dtype]


@pytest.mark.cuda
def test_any_memory_will_do():
    """Transposed, expanded, and beginning where no wide load may."""
    (x, weight, bias), upstream = inputs(PYRAMID, 3, 96, torch.bfloat16, torch.float32, "cuda")
    expected = in_float64((x, weight, bias), upstream[..., :1].expand_as(x), PYRAMID)
    transposed = x.detach().transpose(1, 2).contiguous().transpose(1, 2)
    shifted = torch.cat([x.detach().flatten().new_zeros(1), x.detach().flatten()])[1:].view_as(x)
    for other in (transposed, shifted):
        leaves = [other.requires_grad_(), weight, bias]
        results = run(depthwise_conv_gelu, leaves, upstream[..., :1].expand_as(x), PYRAMID)
        assert all(error(a, e) <= LIMITS[x.dtype] for a, e in zip(results, expected, strict=True))


@pytest.mark.cuda
@pytest.mark.parametrize("wanted", [(True, False, False), (False, True, False), (False, False, True)])
def test_one_gradient_alone_is_the_same(wanted):
    leaves, upstream = inputs(PYRAMID, 3, 192, torch.float16, torch.float32, "cuda")
    expected = run(depthwise_conv_gelu, leaves, upstream, PYRAMID)[1:]
    alone = [leaf.detach().requires_grad_(want) for leaf, want in zip(leaves, wanted, strict=True)]
    depthwise_conv_gelu(*alone, PYRAMID).backward(upstream)
    for leaf, want, gradient in zip(alone, wanted, expected, strict=True):
        assert torch.equal(leaf.grad, gradient) if want else leaf.grad is None


@pytest.mark.cuda
def test_the_same_bits_in_every_run():
    leaves, upstream = inputs([(34, 90), *PYRAMID], 8, 192, torch.bfloat16, torch.float32, "cuda")
    first, second = (run(depthwise_conv_gelu, leaves, upstream, [(34, 90), *PYRAMID]) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.cuda
def test_nan_stays_where_the_convolution_sees_it():
    (x, weight, bias), _ = inputs(PYRAMID, 1, 96, torch.bfloat16, torch.float32, "cuda")
    x = x.detach()
    x[0, 0, 5] = float("nan")  # a corner: four pixels see it
    found = depthwise_conv_gelu(x, weight, bias, PYRAMID).isnan().nonzero().tolist()
    assert found == [[0, 0, 5], [0, 1, 5], [0, 45, 5], [0, 46, 5]]


@pytest.mark.cuda
@pytest.mark.parametrize("channels", [96, 5])
def test_under_autocast_float32_tokens_come_out_in_16_bits(channels):
    """Odd channels take the plain path, on a GPU too."""
    leaves, upstream = inputs(PYRAMID, 2, channels, device="cuda")
    with torch.autocast("cuda", dtype=torch.bfloat16):
        y = depthwise_conv_gelu(*leaves, PYRAMID)
    assert y.dtype == torch.bfloat16
    assert error(y, in_float64(leaves, upstream, PYRAMID)[0]) <= 3 * LIMITS[torch.bfloat16]


@pytest.mark.cuda
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_weights_gradient_has_its_strides(channels_last):
    (x, weight, bias), upstream = inputs(PYRAMID, 2, 96, torch.bfloat16, torch.float32, "cuda")
    if channels_last:
        weight = weight.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    depthwise_conv_gelu(x, weight, bias, PYRAMID).backward(upstream)
    assert weight.grad.stride() == weight.stride()


@pytest.mark.cuda
def test_the_operator_says_what_does_not_fit():
    (x, weight, bias), _ = inputs([(2, 3)], 1, 4, device="cuda")
    operator = torch.ops.racdino.depthwise_conv_gelu
    with pytest.raises(RuntimeError, match=r"sizes \[2, 4\] have 8 tokens together, but x has 6; give the height"):
        operator(x, weight, bias, [2, 4])
    with pytest.raises(RuntimeError, match=r"x is \[1, 6, 3\] Float, expected \(B, S, C\) .* with an even C"):
        operator(x[..., :3], weight, bias, [2, 3])
    with pytest.raises(RuntimeError, match=r"weight is \[3, 1, 3, 3\] Float on cuda:0, expected \[4, 1, 3, 3\] Float"):
        operator(x, weight[:3], bias, [2, 3])
    with pytest.raises(RuntimeError, match=r"bias is \[4\] Double on cuda:0, expected \[4\] Float"):
        operator(x, weight, bias.double(), [2, 3])


@pytest.mark.parametrize("name", SIZES)
def test_on_a_cpu_it_is_torchs_convolution_and_gelu(name):
    sizes = SIZES[name]
    leaves, upstream = inputs(sizes)
    x, weight, bias = leaves
    results = run(depthwise_conv_gelu, leaves, upstream, sizes)
    levels = x.split([height * width for height, width in sizes], dim=1)
    maps = [level.transpose(1, 2).unflatten(2, size) for level, size in zip(levels, sizes, strict=True)]
    maps = [F.conv2d(level, weight, bias, padding=1, groups=6) for level in maps]
    plain = F.gelu(torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1))
    torch.testing.assert_close(results[0], plain, rtol=1e-5, atol=1e-6)
    expected = in_float64(leaves, upstream, sizes)
    assert all(error(a, e) <= 1e-5 for a, e in zip(results, expected, strict=True))


def test_under_autocast_on_a_cpu_it_is_in_16_bits():
    leaves, _ = inputs(PYRAMID)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert depthwise_conv_gelu(*leaves, PYRAMID).dtype == torch.bfloat16
        assert depthwise_conv_gelu(leaves[0].bfloat16(), *leaves[1:], PYRAMID).dtype == torch.bfloat16


def test_a_trace_takes_any_batch():
    x, weight, bias = (leaf.detach() for leaf in inputs(PYRAMID)[0])
    traced = torch.jit.trace(lambda x: depthwise_conv_gelu(x, weight, bias, PYRAMID), (x,), check_trace=False)
    twice = torch.cat([x, x])
    assert torch.equal(traced(twice), depthwise_conv_gelu(twice, weight, bias, PYRAMID))


def test_sizes_of_another_number_of_tokens_are_one_sentence():
    (x, weight, bias), _ = inputs([(2, 3), (1, 1)])
    with pytest.raises(ValueError, match=r"sizes \[\(2, 3\), \(1, 2\)\] have 8 tokens together, but x has 7 of shape"):
        depthwise_conv_gelu(x, weight, bias, [(2, 3), (1, 2)])


def test_meta_tensors_give_the_shapes():
    """What torch.compile knows of the operator; the CUDA kernels give the same shapes (above)."""
    x = torch.empty(2, 7, 6, device="meta", dtype=torch.bfloat16)
    weight, bias = torch.empty(6, 1, 3, 3, device="meta"), torch.empty(6, device="meta")
    y = torch.ops.racdino.depthwise_conv_gelu(x, weight, bias, [2, 3, 1, 1])
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    for wanted in (True, False):
        gradients = torch.ops.racdino.depthwise_conv_gelu_backward(y, x, weight, bias, [2, 3, 1, 1], wanted, wanted)
        for gradient, like in zip(gradients, (x, weight, bias), strict=True):
            assert gradient.shape == (like.shape if wanted else (0,))
            assert gradient.dtype == like.dtype
