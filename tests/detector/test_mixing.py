"""Adaptive mixing is two generated products; its gradients are those of finite differences."""

from __future__ import annotations

import pytest
import torch

from racdino.detector.decoder.mixing import AdaptiveMixing


def make():
    torch.manual_seed(0)
    mixing = AdaptiveMixing(8, in_points=6, num_groups=2, out_points=5).double()
    torch.nn.init.normal_(mixing.parameter_generator.weight)
    samples = torch.randn(2, 3, 2, 6, 4, dtype=torch.float64)
    return mixing, samples, torch.randn(2, 3, 8, dtype=torch.float64)


def normalised(x):
    return ((x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt()).clamp(min=0)


def test_channels_are_mixed_first_and_points_second_query_by_query():
    mixing, samples, query = make()
    expected = torch.zeros_like(query)
    for b in range(2):
        for q in range(3):
            generated = mixing.parameter_generator.weight @ query[b, q] + mixing.parameter_generator.bias
            groups = []
            for g in range(2):
                numbers = generated[46 * g : 46 * (g + 1)]  # 4 * 4 + 5 * 6
                mixed = normalised(samples[b, q, g] @ numbers[:16].view(4, 4))
                groups.append(normalised(numbers[16:].view(5, 6) @ mixed).flatten())
            out = mixing.out_proj.weight @ torch.cat(groups) + mixing.out_proj.bias
            expected[b, q] = query[b, q] + out
    torch.testing.assert_close(mixing(samples, query), expected)


def test_gradients_are_those_of_finite_differences():
    mixing, samples, query = make()
    assert torch.autograd.gradcheck(mixing, (samples.requires_grad_(), query.requires_grad_()))


def test_samples_of_another_shape_are_refused():
    mixing, samples, query = make()
    with pytest.raises(ValueError, match=r"\(2, 5, 4\), expected \(2, 6, 4\)"):
        mixing(samples[..., :5, :], query)
