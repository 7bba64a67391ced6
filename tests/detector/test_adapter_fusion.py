"""Adapter maps are resized to the stages, concatenated and brought back to the stages' widths."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from racdino.detector.adapter_fusion import AdapterFusion


def test_equals_resize_concatenate_convolve_normalise():
    torch.manual_seed(0)
    fusion = AdapterFusion([8, 16], 6).eval()
    stages = [torch.randn(2, 8, 10, 14), torch.randn(2, 16, 5, 7)]
    adapted = [torch.randn(2, 6, 10, 14), torch.randn(2, 6, 4, 6)]
    out = fusion(stages, adapted)
    assert [x.shape for x in out] == [x.shape for x in stages]
    for index, (stage, extra) in enumerate(zip(stages, adapted, strict=True)):
        extra = F.interpolate(extra, size=stage.shape[2:], mode="bilinear", align_corners=False)
        module = fusion.convs[index]
        mixed = torch.einsum("oi,bihw->bohw", module.conv.weight[:, :, 0, 0], torch.cat([stage, extra], 1))
        torch.testing.assert_close(out[index], (mixed / (1 + module.bn.eps) ** 0.5).clamp(min=0), rtol=1e-4, atol=1e-5)
        assert module.conv.bias is None
