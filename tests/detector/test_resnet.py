"""Our ResNet is mmdet's: the same maps from the same weights, and the same parts frozen."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from racdino.detector.registry import build
from racdino.detector.resnet import ResNet

MmdetResNet = pytest.importorskip("mmdet.models", reason="mmdet is not installed").ResNet
KEYS = {
    "depth": 50,
    "num_stages": 4,
    "out_indices": (0, 1, 2, 3),
    "frozen_stages": 1,
    "norm_cfg": {"type": "BN2d", "requires_grad": True},
    "norm_eval": True,
    "style": "pytorch",
}


def randomise(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return model


@pytest.mark.parametrize("depth", [18, 50])
def test_maps_equal_those_of_mmdet_with_the_same_weights(depth):
    torch.manual_seed(0)
    ours = randomise(ResNet(**{**KEYS, "depth": depth})).eval()
    theirs = MmdetResNet(**{**KEYS, "depth": depth})
    theirs.eval()  # returns nothing
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        for a, b in zip(ours(x), theirs(x), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("frozen_stages", [-1, 0, 1, 4])
@pytest.mark.parametrize("norm_eval", [True, False])
def test_what_is_trained_equals_mmdet(frozen_stages, norm_eval):
    keys = {**KEYS, "frozen_stages": frozen_stages, "norm_eval": norm_eval}
    ours, theirs = ResNet(**keys), MmdetResNet(**keys)
    theirs.train()  # ours is so from the start
    assert {n: p.requires_grad for n, p in ours.named_parameters()} == {
        n: p.requires_grad for n, p in theirs.named_parameters()
    }
    norms = {n: m.training for n, m in theirs.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert {n: m.training for n, m in ours.named_modules() if isinstance(m, nn.BatchNorm2d)} == norms


def test_recomputing_activations_changes_no_gradient():
    torch.manual_seed(0)
    x = torch.randn(1, 3, 32, 32)
    kept, recomputed = ResNet(**KEYS), ResNet(**KEYS, with_cp=True)
    recomputed.load_state_dict(kept.state_dict())
    gradients = []
    for model in (kept, recomputed):
        model.train()
        sum(level.square().mean() for level in model(x)).backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_fewer_stages_have_no_parameters_for_the_rest():
    model = ResNet(depth=18, num_stages=2, out_indices=(1,))
    assert not any(name.startswith(("layer3", "layer4", "fc")) for name in model.state_dict())
    assert [tuple(level.shape) for level in model(torch.zeros(1, 3, 64, 64))] == [(1, 128, 8, 8)]


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"depth": 49}, "depth=49"),
        ({"style": "caffe"}, "style='caffe'"),
        ({"out_indices": (4,)}, "cannot return the stages"),
        ({"pretrained": "torchvision://resnet50"}, "load_from"),
        ({"init_cfg": {"type": "Pretrained", "checkpoint": "x.pth"}}, "x.pth"),
        ({"norm_cfg": {"type": "GN", "num_groups": 32}}, "type='GN'"),
    ],
)
def test_what_it_cannot_do_is_said(keys, sentence):
    with pytest.raises(ValueError, match=sentence):
        build({"type": "ResNet", **KEYS, **keys})
