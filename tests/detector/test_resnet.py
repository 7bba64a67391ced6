"""Our ResNet is mmdet's: the same maps from the same weights, and the same parts frozen."""

from __future__ import annotations

import copy

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


def plain_forward(model: ResNet, x: torch.Tensor) -> list[torch.Tensor]:
    """torchvision's, by its own modules."""
    x = model.maxpool(model.relu(model.bn1(model.conv1(x))))
    maps = []
    for stage in range(4):
        x = getattr(model, f"layer{stage + 1}")(x)
        maps.append(x)
    return maps


@pytest.mark.parametrize("norm_eval", [True, False])
@pytest.mark.parametrize("with_cp", [True, False])
@pytest.mark.parametrize(("depth", "frozen_stages"), [(18, -1), (50, -1), (50, 1)])
@pytest.mark.parametrize("trained_norms", [True, False])
def test_values_and_gradients_are_those_of_torchvisions_layers(depth, frozen_stages, with_cp, norm_eval, trained_norms):
    torch.manual_seed(0)
    keys = {"depth": depth, "frozen_stages": frozen_stages, "norm_eval": norm_eval, "zero_init_residual": False}
    norm_cfg = {"type": "BN", "requires_grad": trained_norms}
    ours = randomise(ResNet(**{**KEYS, **keys, "norm_cfg": norm_cfg}, with_cp=with_cp)).double()
    with torch.no_grad():
        for norm in ours._norms():
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.uniform_(-0.5, 0.5)
            norm.running_mean.uniform_(-0.5, 0.5)
    plain = copy.deepcopy(ours)
    results = []
    for model, forward in ((ours, ours.forward), (plain, lambda x: plain_forward(plain, x))):
        x = torch.randn(
            2, 3, 45, 70, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True
        )
        maps = forward(x)
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        gradients = torch.autograd.grad(sum(level.sin().sum() for level in maps), [x, *trained.values()])
        results.append([*maps, *gradients])
    for got, want in zip(*results, strict=True):
        assert (got - want).abs().max() <= 1e-10 * want.abs().max()
    assert all(p.grad_fn is None for p in ours.parameters())
    if not with_cp:  # which updates running statistics twice
        for (name, got), want in zip(ours.named_buffers(), plain.buffers(), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("depth", [18, 50])
def test_cuda_finds_the_maps_and_gradients_of_torchvisions_layers(depth, dtype):
    """Where cuDNN adds bias and ReLU on the way; 16 bits are compared with float32 by the norm of the difference."""
    torch.manual_seed(0)
    model = randomise(ResNet(**{**KEYS, "depth": depth}, with_cp=True, zero_init_residual=False)).cuda()
    x = torch.randn(2, 3, 64, 96, device="cuda")
    trained = [p for p in model.parameters() if p.requires_grad]
    results = []
    for forward, precision in ((model, dtype), (lambda x: plain_forward(model, x), None)):
        with torch.autocast("cuda", dtype=precision, enabled=precision is not None):
            maps = forward(x)
        loss = sum(level.float().square().mean() for level in maps)
        gradients = torch.autograd.grad(1e3 * loss, trained)  # large enough for float16
        results.append([*maps, *gradients])
    tolerance = 1e-2 if dtype is None else 0.2
    for got, want in zip(*results, strict=True):
        assert (got - want).norm() <= tolerance * want.norm()


def test_gradients_have_the_strides_of_their_weights():
    """For 1x1 weights too, where a convolution of channels-last maps gives others, at which DDP warns."""
    for norm_eval in (True, False):
        model = ResNet(**{**KEYS, "norm_eval": norm_eval})
        sum(level.mean() for level in model(torch.randn(1, 3, 64, 64))).backward()
        for parameter in model.parameters():
            assert parameter.grad is None or parameter.grad.stride() == parameter.stride()


def test_frozen_layers_are_folded_once_and_again_when_they_change():
    model = ResNet(**KEYS, zero_init_residual=False)
    x = torch.randn(1, 3, 64, 64)
    before = [level.detach() for level in model(x)]
    kept = model._kept["folded", torch.float32]
    model(x)
    assert model._kept["folded", torch.float32] is kept
    with torch.no_grad():
        model.layer1[1].bn2.running_mean.add_(1)
    assert not torch.equal(model(x)[0], before[0])
    plain = plain_forward(model, x)
    torch.testing.assert_close(model(x)[0], plain[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm_eval", [True, False])
@pytest.mark.parametrize("name", ["conv1", "bn1", "layer1.0.conv1", "layer1.0.bn3", "layer2.0.downsample.0"])
@torch.no_grad()
def test_a_layer_is_called_where_someone_listens(name, norm_eval):
    model, heard = randomise(ResNet(**{**KEYS, "norm_eval": norm_eval}, zero_init_residual=False)), []
    x = torch.randn(1, 3, 64, 64)
    want = plain_forward(model, x)
    model.get_submodule(name).register_forward_hook(lambda *_: heard.append(name))
    for got, plain in zip(model(x), want, strict=True):
        torch.testing.assert_close(got, plain, rtol=1e-4, atol=1e-4)
    assert heard == [name]


class Doubled(nn.Module):
    def __init__(self, conv):
        super().__init__()
        self.conv, self.weight = conv, conv.weight

    def forward(self, x):
        return 2 * self.conv(x)


@torch.no_grad()
def test_what_took_a_convolutions_place_is_called():
    model = randomise(ResNet(**KEYS, zero_init_residual=False))
    for block in (model.layer1[0], model.layer2[0]):
        block.conv1, block.conv2 = Doubled(block.conv1), Doubled(block.conv2)
    x = torch.randn(1, 3, 64, 64)
    for got, want in zip(model(x), plain_forward(model, x), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


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
