"""Pooling equals a naive float64 loop, differentiates as finite differences do, and repeats itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from racdino.detector.bev_pool import Ranks, bev_pool


def make_inputs(dtype, pixels=40, depths=7, channels=5, cells=11, seed=0):
    generator = torch.Generator().manual_seed(seed)
    depth = torch.rand(pixels, depths, generator=generator, dtype=dtype)
    features = torch.randn(pixels, channels, generator=generator, dtype=dtype)
    return depth, features, torch.randint(0, cells + 1, (pixels, depths), generator=generator), cells


@pytest.mark.parametrize("count", [1, 2, 11, 400])  # cells of many stretches, of one, and empty ones
def test_equals_a_naive_loop_in_float64(count):
    depth, features, cells, count = make_inputs(torch.float64, cells=count)
    expected = np.zeros((count, features.shape[1]))
    for pixel in range(depth.shape[0]):
        for hypothesis in range(depth.shape[1]):
            if (cell := int(cells[pixel, hypothesis])) < count:
                expected[cell] += depth[pixel, hypothesis].item() * features[pixel].numpy()
    np.testing.assert_allclose(
        bev_pool(depth, features, Ranks.of(cells, count)).numpy(), expected, rtol=1e-12, atol=1e-12
    )


def test_gradient_matches_finite_differences():
    depth, features, cells, count = make_inputs(torch.float64, pixels=6, depths=4, channels=3)
    inputs = depth.requires_grad_(), features.requires_grad_()
    assert torch.autograd.gradcheck(lambda d, f: bev_pool(d, f, Ranks.of(cells, count)), inputs)


def test_gradient_in_several_chunks_equals_one_in_plain_torch():
    depth, features, cells, count = make_inputs(torch.float32, pixels=2500)
    weights = torch.randn(count, features.shape[1])
    gradients = []
    pools = (
        lambda depth, features: bev_pool(depth, features, Ranks.of(cells, count)),
        lambda depth, features: _index_add(depth, features, cells, count),
    )
    for pool in pools:
        inputs = depth.clone().requires_grad_(), features.clone().requires_grad_()
        (pool(*inputs) * weights).sum().backward()
        gradients.append([x.grad for x in inputs])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def _index_add(depth, features, cells, count):
    products = (depth[..., None] * features[:, None]).flatten(0, 1)
    return torch.zeros(count + 1, features.shape[1]).index_add(0, cells.flatten(), products)[:count]


def test_result_is_the_same_bit_for_bit_every_time():
    depth, features, cells, count = make_inputs(torch.float32, pixels=5000)
    first = bev_pool(depth, features, Ranks.of(cells, count))
    assert all(torch.equal(first, bev_pool(depth, features, Ranks.of(cells, count))) for _ in range(3))


@pytest.mark.cuda
def test_cuda_equals_the_cpu_forward_and_backward():
    depth, features, cells, count = make_inputs(torch.float32, pixels=3000)
    results = []
    for device in ("cpu", "cuda"):
        inputs = [x.clone().to(device).requires_grad_() for x in (depth, features)]
        out = bev_pool(*inputs, Ranks.of(cells.to(device), count))
        out.square().sum().backward()
        results.append([out.cpu(), *(x.grad.cpu() for x in inputs)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-3)


def test_nothing_inside_the_grid_gives_zeros_and_zero_gradients():
    depth, features, cells, count = make_inputs(torch.float32)
    depth.requires_grad_()
    out = bev_pool(depth, features, Ranks.of(torch.full_like(cells, count), count))
    out.sum().backward()
    assert not out.any()
    assert not depth.grad.any()


def test_half_precision_inputs_are_summed_in_float32():
    depth, features, cells, count = make_inputs(torch.float32)
    ranks = Ranks.of(cells, count)
    out = bev_pool(depth.bfloat16(), features.bfloat16(), ranks)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, bev_pool(depth.bfloat16().float(), features.bfloat16().float(), ranks))
