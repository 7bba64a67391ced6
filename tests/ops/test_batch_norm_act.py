"""Batch norm and ReLU by one operator are those of plain torch in float64; where it does not serve, plain torch."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from racdino.backbones.spatial_prior import SpatialPriorModule
from racdino.ops import batch_norm_act

MODES = [(True, True), (True, False), (False, True), (False, False)]
NEEDED = {torch.float32: 2e-6, torch.float16: 5e-4, torch.bfloat16: 4e-3}  # relative errors of maps, in the norm


def norm_of(channels: int, device: str = "cuda", offset: float = 0.0) -> nn.BatchNorm2d:
    """Parameters and statistics are those of no other channel."""
    norm = nn.BatchNorm2d(channels)
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(tensor)
    with torch.no_grad():
        norm.running_mean += offset
    nn.init.uniform_(norm.running_var, 0.5, 2)
    return norm.to(device)


def map_of(*shape: int, dtype: torch.dtype = torch.float32, device: str = "cuda", offset: float = 0.0) -> Tensor:
    channels = shape[1]
    x = torch.randn(*shape) * (0.5 + torch.rand(channels, 1, 1)) + torch.randn(channels, 1, 1) + offset
    return x.to(device, dtype, memory_format=torch.channels_last)


def error(got: Tensor, wanted: Tensor) -> float:
    apart = (got.double() - wanted).norm()
    return float(apart / wanted.norm()) if apart else 0.0  # also of zeros


def compare(x: Tensor, norm: nn.BatchNorm2d, relu: bool, maps: float, numbers: float) -> None:
    """Output, gradients and statistics of two steps, against float64. What is rectified, rounding decides near zero:
    the gradients are compared through the operator's own mask."""
    plain = copy.deepcopy(norm).double()
    for _ in range(2):
        leaf, reference = x.detach().requires_grad_(), x.double().requires_grad_()
        norm.zero_grad()
        plain.zero_grad()
        y, wanted = batch_norm_act(leaf, norm, relu), plain(reference)
        upstream = torch.randn_like(y)
        y.backward(upstream)
        wanted.backward(upstream.double() * (y > 0) if relu else upstream.double())
        assert y.dtype == x.dtype
        assert error(y, F.relu(wanted) if relu else wanted) <= maps
        assert leaf.grad.dtype == x.dtype
        assert error(leaf.grad, reference.grad) <= maps
        for name in ("weight", "bias"):
            assert error(getattr(norm, name).grad, getattr(plain, name).grad) <= numbers, name
        for name in ("running_mean", "running_var"):
            assert error(getattr(norm, name), getattr(plain, name)) <= numbers, name
        assert norm.num_batches_tracked == plain.num_batches_tracked


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", list(NEEDED), ids=str)
@pytest.mark.parametrize(("training", "relu"), MODES)
@pytest.mark.parametrize("channels", [64, 128, 256, 384, 768, 1024, 2056])
@pytest.mark.parametrize("size", [(1, 2, 3), (3, 5, 7), (1, 67, 90), (3, 61, 133)])
def test_output_gradients_and_statistics_are_those_of_plain_torch(dtype, training, relu, channels, size):
    torch.manual_seed(channels)
    batch, height, width = size
    x = map_of(batch, channels, height, width, dtype=dtype)
    norm = norm_of(channels).train(training)
    compare(x, norm, relu, maps=NEEDED[dtype], numbers=2e-6)


@pytest.mark.cuda
@pytest.mark.parametrize(("training", "relu"), MODES)
def test_a_mean_far_from_zero_costs_no_more_than_its_own_rounding(training, relu):
    """1000 in float32 is known to 3e-5; sums of squares would lose the variance of 1."""
    torch.manual_seed(0)
    x, norm = map_of(3, 64, 133, 357, offset=1e3), norm_of(64, offset=1e3).train(training)
    compare(x, norm, relu, maps=2e-4, numbers=2e-4)


@pytest.mark.cuda
def test_one_far_value_does_not_spoil_the_variance():
    """The first value of all, to which sums might be shifted."""
    torch.manual_seed(0)
    x, norm = map_of(1, 64, 133, 357), norm_of(64)
    x[0, :, 0, 0] = 1e4
    compare(x, norm, False, maps=2e-6, numbers=2e-6)


@pytest.mark.cuda
def test_other_memory_formats_are_read_as_they_are():
    torch.manual_seed(0)
    x, norm = map_of(2, 64, 9, 11).contiguous(), norm_of(64)
    compare(x, norm, True, maps=2e-6, numbers=2e-6)
    compare(map_of(2, 64, 9, 12)[:, :, :, 1::2], norm, True, maps=2e-6, numbers=2e-6)


@pytest.mark.cuda
@pytest.mark.parametrize("training", [True, False])
def test_the_same_bits_in_every_run(training):
    torch.manual_seed(0)
    x, start = map_of(4, 64, 133, 357, dtype=torch.bfloat16), norm_of(64).train(training)
    runs = []
    for _ in range(2):
        leaf, norm = x.detach().requires_grad_(), copy.deepcopy(start)
        y = batch_norm_act(leaf, norm, True)
        y.backward(x)
        runs.append([y, leaf.grad, norm.weight.grad, norm.bias.grad, *norm.buffers()])
    for first, second in zip(*runs, strict=True):
        assert torch.equal(first, second)


@pytest.mark.cuda
def test_nan_stays_and_a_channel_keeps_it():
    torch.manual_seed(0)
    x, norm = map_of(1, 64, 9, 11), norm_of(64)
    x[0, 3, 2, 1] = float("nan")
    y = batch_norm_act(x, norm, True)
    assert y[0, 3].isnan().all()
    assert y.isfinite()[0, [*range(3), *range(4, 64)]].all()


@pytest.mark.cuda
@pytest.mark.parametrize("wanted", [(True, False, False), (False, True, False), (False, False, True)], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_gradients_that_nobody_wants_are_none(wanted, training):
    x, norm = map_of(1, 64, 9, 11), norm_of(64).train(training)
    leaves = (x, norm.weight, norm.bias)
    for leaf, needed in zip(leaves, wanted, strict=True):
        leaf.requires_grad_(needed)
    batch_norm_act(x, norm, True).sum().backward()
    assert [leaf.grad is not None for leaf in leaves] == list(wanted)


@pytest.mark.cuda
def test_statistics_that_change_before_backward_are_noticed():
    """As in plain torch; what remembers values of frozen statistics counts on their versions too."""
    x, norm = map_of(1, 64, 9, 11).requires_grad_(), norm_of(64)
    versions = [norm.running_mean._version, norm.running_var._version]
    y = batch_norm_act(x, norm.eval(), True)
    batch_norm_act(x, norm.train(), True)
    assert [norm.running_mean._version, norm.running_var._version] == [version + 1 for version in versions]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.cuda
def test_one_value_per_channel_is_refused_in_training_as_by_torch():
    x, norm = map_of(1, 64, 1, 1), norm_of(64)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        batch_norm_act(x, norm, True)
    batch_norm_act(x, norm.eval(), True)


@pytest.mark.cuda
def test_tensors_that_do_not_fit_are_one_sentence():
    x, numbers = map_of(1, 64, 3, 3), torch.ones(64, device="cuda")
    operator = torch.ops.racdino.batch_norm_act
    with pytest.raises(RuntimeError, match=r"x is \[1, 6, 3, 3\] Float on cuda:0, expected .* a multiple of 4"):
        operator(x[:, :6], *[numbers[:6]] * 4, True, 0.1, 1e-5, True)
    with pytest.raises(RuntimeError, match=r"bias is \[32\] Float on cuda:0, expected \[64\] Float on cuda:0"):
        operator(x, numbers, numbers[:32], numbers, numbers, True, 0.1, 1e-5, True)


def uses_operator(y: Tensor) -> bool:
    return "BatchNormAct" in type(y.grad_fn).__name__


@pytest.mark.cuda
def test_serves_batch_norms_that_nobody_listens_to():
    """Others are called as they are: each of these would go wrong, or unheard, in the operator."""
    x = map_of(2, 64, 9, 11)
    assert uses_operator(batch_norm_act(x, norm_of(64), True))
    cumulative, heard, without_statistics = norm_of(64), norm_of(64), nn.BatchNorm2d(64, track_running_stats=False)
    cumulative.momentum = None
    calls = []
    heard.register_forward_hook(lambda *_: calls.append(1))
    for norm in (cumulative, heard, without_statistics.cuda(), nn.BatchNorm2d(64, affine=False).cuda()):
        leaf = x.detach().requires_grad_()
        assert not uses_operator(batch_norm_act(leaf, norm, True))
    assert calls == [1]
    assert not uses_operator(batch_norm_act(x.double(), norm_of(64).double(), True))
    assert not uses_operator(batch_norm_act(map_of(2, 6, 9, 11), norm_of(6), True))


@pytest.mark.cuda
@pytest.mark.parametrize("training", [True, False])
def test_the_spatial_prior_under_autocast_is_that_of_its_own_layers(training):
    torch.manual_seed(0)
    module = SpatialPriorModule(16, 32).cuda().train(training)
    plain = copy.deepcopy(module)
    for layer in plain.modules():
        layer.register_forward_hook(lambda *_: None)
    x = torch.randn(2, 3, 64, 96, device="cuda")
    with torch.autocast("cuda", dtype=torch.bfloat16):
        ours, theirs = module(x), plain(x)
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == other.dtype
        assert error(one, other.double()) <= 3e-2
    for one, other in zip(module.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3)


class Loud(nn.SyncBatchNorm):
    """Stands for SyncBatchNorm in training, which needs a GPU and other processes."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_sync_batch_norm_is_called_as_it_is(device):
    x = map_of(1, 64, 4, 6, device=device)
    assert torch.equal(batch_norm_act(x, Loud(64).to(device), True), F.relu(x + 1))
    prior = nn.SyncBatchNorm.convert_sync_batchnorm(SpatialPriorModule(16, 32)).to(device).eval()
    assert isinstance(prior.stem[1], nn.SyncBatchNorm)
    prior.stem[1].register_forward_hook(lambda *_: calls.append(1))
    calls: list[int] = []
    prior(torch.randn(1, 3, 64, 64, device=device))
    assert calls == [1]


@pytest.mark.parametrize("training", [True, False])
def test_on_a_cpu_the_modules_to_the_bit(training):
    torch.manual_seed(0)
    module = SpatialPriorModule(16, 32).train(training)
    layers = copy.deepcopy(module.stem)
    x = torch.randn(2, 3, 64, 96)
    wanted = x
    for layer in layers:
        wanted = layer(wanted)
    assert torch.equal(module.stem(x), wanted)
    for one, other in zip(module.stem.buffers(), layers.buffers(), strict=True):
        assert torch.equal(one, other)


def test_hooks_on_the_rectifiers_are_heard():
    module, calls = SpatialPriorModule(16, 32), []
    module.stem[2].register_forward_hook(lambda *_: calls.append(1))
    module(torch.randn(2, 3, 64, 64))
    assert calls == [1]


@pytest.mark.parametrize("training", [True, False])
def test_meta_tensors_give_the_shapes(training):
    """What fake tensors know of the operator; the CUDA kernels give the same (above)."""
    x = torch.empty(2, 64, 5, 7, device="meta", dtype=torch.bfloat16)
    numbers = torch.empty(64, device="meta")
    y, mean, variance = torch.ops.racdino.batch_norm_act(x, *[numbers] * 4, training, 0.1, 1e-5, True)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert mean.shape == variance.shape == ((64,) if training else (0,))
    for wanted in (True, False):
        gradients = torch.ops.racdino.batch_norm_act_backward(y, x, *[numbers] * 4, training, 1e-5, True, wanted)
        of_parameters = (64,) if training or wanted else (0,)
        assert [gradient.shape for gradient in gradients] == [x.shape, of_parameters, of_parameters]
