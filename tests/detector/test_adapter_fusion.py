"""Adapter maps are resized to the stages, concatenated and brought back to the stages' widths."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from small_detector import ADAPTER, small_config

from racdino.detector import build
from racdino.detector.adapter_fusion import AdapterFusion


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("training", [True, False])
def test_equals_resize_concatenate_convolve_normalise(training, memory_format):
    torch.manual_seed(0)
    fusion = AdapterFusion([8, 16], 6).double().train(training)
    maps = [torch.randn(2, *shape, dtype=torch.float64) for shape in ((8, 10, 14), (16, 5, 7), (6, 10, 14), (6, 4, 6))]
    maps = [x.contiguous(memory_format=memory_format).requires_grad_() for x in maps]
    leaves = [*maps, *fusion.parameters()]
    out = fusion(maps[:2], maps[2:])
    expected = []
    for module, stage, extra in zip(fusion.convs, maps[:2], maps[2:], strict=True):
        extra = F.interpolate(extra, size=stage.shape[2:], mode="bilinear", align_corners=False)
        assert module.conv.bias is None
        x = F.conv2d(torch.cat([stage, extra], 1), module.conv.weight)
        bn = module.bn
        expected.append(F.batch_norm(x, None if training else bn.running_mean, None if training else bn.running_var,
                                     bn.weight, bn.bias, training, eps=bn.eps).relu())  # fmt: skip
    upstream = [torch.randn_like(x) for x in expected]
    gradients = [torch.autograd.grad(results, leaves, upstream) for results in (out, expected)]
    for got, want in zip([*out, *gradients[0]], [*expected, *gradients[1]], strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    sum(x.sum() for x in fusion(maps[:2], maps[2:])).backward()
    assert all(p.grad.stride() == p.stride() for p in fusion.parameters())  # else DDP warns


def test_adapters_of_a_detector_return_channels_last_maps():
    beside = build(small_config(dinov2_adapter=ADAPTER)).dinov2_adapter
    maps, vit_map = beside(torch.randn(1, 3, 45, 70))
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in [*maps, vit_map])
    beside.channels_last = False
    for a, b in zip(maps, beside(torch.randn(1, 3, 45, 70))[0], strict=True):
        assert a.shape == b.shape
        assert b.is_contiguous()
