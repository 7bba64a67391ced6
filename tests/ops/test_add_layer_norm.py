"""Layer norm with the residual sum before it: on a GPU against plain torch in float64, elsewhere plain torch itself."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from racdino.backbones.interaction import Extractor, Injector, Sampling
from racdino.backbones.layers import Block, LayerNorm
from racdino.ops import add_layer_norm
from racdino.ops.add_layer_norm import _AddLayerNorm

EPS = 1e-6
BOUNDS = {torch.float32: 1e-6, torch.float16: 5e-4, torch.bfloat16: 4e-3}  # of the norm of the error
DTYPES = [
    pytest.param(dtype, parameters, id=f"{dtype} with {parameters}".replace("torch.", ""))
    for dtype in BOUNDS
    for parameters in dict.fromkeys((dtype, torch.float32))
]


def error(got: torch.Tensor, want: torch.Tensor) -> float:
    return ((got.double() - want).norm() / want.norm().clamp_min(1e-300)).item()


def inputs(shape, dtype, parameters, device="cuda", offset=0.0):
    """x, update, weight and bias."""
    torch.manual_seed(0)
    x, update = torch.randn(shape, device=device) + offset, torch.randn(shape, device=device)
    weight, bias = torch.randn(shape[-1], device=device), torch.randn(shape[-1], device=device)
    tensors = (x.to(dtype), update.to(dtype), weight.to(parameters), bias.to(parameters))
    return [tensor.requires_grad_() for tensor in tensors]


def gradients(outputs, leaves, upstream):
    """Of those outputs that have a gradient upstream."""
    pairs = [
        (output, grad.to(output.dtype)) for output, grad in zip(outputs, upstream, strict=True) if grad is not None
    ]
    from_, weights = zip(*pairs, strict=True)
    return torch.autograd.grad(from_, leaves, weights, allow_unused=True)


@pytest.mark.cuda
@pytest.mark.parametrize("upstream_of", [(True, True), (False, True), (True, False)], ids=["both", "normed", "sum"])
@pytest.mark.parametrize("with_update", [True, False], ids=["update", "no update"])
@pytest.mark.parametrize("C", [384, 768, 1024, 1536])
@pytest.mark.parametrize(("dtype", "parameters"), DTYPES)
def test_results_and_gradients_are_those_of_float64(dtype, parameters, C, with_update, upstream_of):
    for lead in ((5, 1001), (7,), (1,), (2, 0)):
        x, update, weight, bias = inputs((*lead, C), dtype, parameters)
        outputs = add_layer_norm(x, update if with_update else None, weight, bias, EPS)
        rounded = x + update if with_update else x
        exact = [tensor.detach().double().requires_grad_() for tensor in (rounded, weight, bias)]
        wanted = exact[0] * 1, F.layer_norm(exact[0], (C,), *exact[1:], EPS)
        assert outputs[0].dtype == outputs[1].dtype == dtype
        assert torch.equal(outputs[0], rounded)
        assert error(outputs[1], wanted[1]) <= BOUNDS[dtype]

        upstream = [torch.randn(x.shape, device="cuda").to(dtype) if there else None for there in upstream_of]
        leaves = [x, weight, bias, *([update] if with_update else [])]
        of_x, *of_parameters = gradients(wanted, exact, upstream)
        got = gradients(outputs, leaves, upstream)
        assert error(got[0], of_x) <= BOUNDS[dtype]
        if with_update:
            assert torch.equal(got[3], got[0])
        for ours, want, leaf in zip(got[1:3], of_parameters, leaves[1:3], strict=True):
            if want is None:
                assert ours is None
            else:
                assert ours.dtype == parameters
                assert ours.shape == leaf.shape
                assert error(ours, want) <= BOUNDS[parameters]


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
def test_parameters_may_be_frozen_and_gradients_are_the_same_then(dtype):
    x, update, weight, bias = inputs((3, 501, 768), dtype, torch.float32)
    upstream = torch.randn_like(x), torch.randn_like(x)
    of_all = gradients(add_layer_norm(x, update, weight, bias, EPS), [x, update, weight, bias], upstream)
    outputs = add_layer_norm(x, update, weight.detach(), bias.detach(), EPS)
    for ours, want in zip(gradients(outputs, [x, update], upstream), of_all[:2], strict=True):
        assert error(ours, want.double()) <= BOUNDS[dtype]
    (of_bias,) = gradients(add_layer_norm(x, update, weight.detach(), bias, EPS), [bias], upstream)
    assert torch.equal(of_bias, of_all[3])


@pytest.mark.cuda
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("with_update", [True, False], ids=["update", "no update"])
def test_without_gradients_the_results_are_the_same(with_update, mode):
    x, update, weight, bias = inputs((3, 501, 768), torch.bfloat16, torch.float32)
    arguments = (x, update if with_update else None, weight, bias, EPS)
    wanted = add_layer_norm(*arguments)
    with mode():
        for ours, want in zip(add_layer_norm(*arguments), wanted, strict=True):
            assert torch.equal(ours, want)
            assert ours is x or not ours.requires_grad  # without an update the sum is the argument


@pytest.mark.cuda
def test_forward_mode_is_refused_with_and_without_gradients():
    x, _, weight, bias = (leaf.detach() for leaf in inputs((2, 768), torch.float32, torch.float32))
    for mode in (torch.enable_grad, torch.no_grad):
        with mode(), torch.autograd.forward_ad.dual_level(), pytest.raises(RuntimeError, match="forward mode AD"):
            add_layer_norm(torch.autograd.forward_ad.make_dual(x, x), None, weight, bias, EPS)


@pytest.mark.cuda
def test_what_nobody_wants_has_no_elements():
    x, _, weight, bias = (leaf.detach() for leaf in inputs((501, 768), torch.bfloat16, torch.float32))
    _, normed, mean, rstd = torch.ops.racdino.add_layer_norm(x, None, weight, bias, EPS)
    for _ in range(20):  # a shape that dangled was right most of the time
        result = torch.ops.racdino.add_layer_norm_backward(normed, None, x, mean, rstd, weight, False)
        assert [tuple(gradient.shape) for gradient in result] == [(501, 768), (0,), (0,)]


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("C", [384, 1536])
def test_the_same_bits_in_every_run(dtype, C):
    leaves = inputs((20011, C), dtype, torch.float32)
    upstream = torch.randn_like(leaves[0]), torch.randn_like(leaves[0])
    runs = []
    for _ in range(2):
        outputs = add_layer_norm(*leaves, EPS)
        runs.append([*outputs, *gradients(outputs, leaves, upstream)])
    for first, second in zip(*runs, strict=True):
        assert torch.equal(first, second)


@pytest.mark.cuda
def test_a_mean_far_from_zero_costs_only_its_own_rounding():
    """E[x^2] - E[x]^2 in float32 would be off by as much as it is."""
    x, _, weight, bias = inputs((1001, 768), torch.float32, torch.float32, offset=1e3)
    normed = add_layer_norm(x, None, weight, bias, EPS)[1]
    want = F.layer_norm(x.double(), (768,), weight.double(), bias.double(), EPS)
    assert error(normed, want) <= 1e3 * 2**-23


@pytest.mark.cuda
@pytest.mark.parametrize("with_update", [True, False], ids=["update", "no update"])
def test_tensors_may_have_gaps_and_parameters_lie_anywhere(with_update):
    torch.manual_seed(0)
    memory = torch.randn(4, 5, 2 * 384, device="cuda", requires_grad=True)
    flat = torch.randn(1 + 2 * 384, device="cuda", requires_grad=True)

    def run(prepare):
        x, update = (prepare(part) for part in memory.transpose(0, 1).chunk(2, dim=-1))
        weight, bias = (prepare(part) for part in flat[1:].chunk(2))
        total, normed = add_layer_norm(x, update if with_update else None, weight, bias, EPS)
        upstream = torch.linspace(-1, 1, 4 * 5 * 384, device="cuda").view(4, 5, 384).transpose(0, 1)
        loss = (normed * upstream).sum() + total.sum()  # the latter has a gradient without strides
        return [total, normed, *torch.autograd.grad(loss, (memory, flat))]

    for ours, dense in zip(run(lambda part: part), run(torch.clone), strict=True):
        assert error(ours, dense.double()) <= 1e-6


@pytest.mark.cuda
def test_what_does_not_fit_is_one_sentence():
    operator = torch.ops.racdino.add_layer_norm
    x, update, weight, bias = (tensor.detach() for tensor in inputs((2, 3, 768), torch.float16, torch.float32))
    expected = r"x is \[2, 3, 768\] Double, expected \(\.\.\., C\) Float, Half or BFloat16 with C one of 384, 768, 1024"
    with pytest.raises(RuntimeError, match=expected):
        operator(x.double(), None, weight, bias, EPS)
    with pytest.raises(RuntimeError, match=r"x is \[2, 3, 100\] Half, expected"):
        operator(x[..., :100], None, weight, bias, EPS)
    with pytest.raises(
        RuntimeError, match=r"update is \[3, 768\] Half on cuda:0, expected \[2, 3, 768\] Half on cuda:0"
    ):
        operator(x, update[0], weight, bias, EPS)
    with pytest.raises(RuntimeError, match=r"weight is \[768\] BFloat16 on cuda:0, expected \[768\] Half on cuda:0"):
        operator(x, update, weight.bfloat16(), bias, EPS)
    with pytest.raises(RuntimeError, match=r"bias is \[768\] Float on cpu, expected \[768\] Float on cuda:0"):
        add_layer_norm(x, update, weight, bias.cpu(), EPS)
    with pytest.raises(RuntimeError, match=r"weight is \[384\] Float on cuda:0, expected \[768\] Float on cuda:0"):
        add_layer_norm(x, update, weight[:384], bias, EPS)


@pytest.mark.cuda
@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "trains"])
@pytest.mark.parametrize("name", ["block", "injector", "extractor"])
def test_blocks_and_exchanges_compute_as_on_a_cpu(name, frozen):
    """In float32 with the kernels; on the CPU plain torch in float64."""
    torch.manual_seed(0)
    modules = {
        "block": Block(384, 6, 4, 1.0),
        "injector": Injector(384, 6, 4, 1, 0.5, 1.0),
        "extractor": Extractor(384, 6, 4, 0.5, True, 0.25),
    }
    sizes, prefix = [(4, 5)], 1 if name == "injector" else 0
    module = modules[name].requires_grad_(not frozen)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    query, feat = torch.randn(2, prefix + 20, 384), torch.randn(2, 20, 384)
    results = []
    for device, dtype in (("cuda", torch.float32), ("cpu", torch.float64)):
        ours = copy.deepcopy(module).to(device, dtype)
        leaves = [x.to(device, dtype).requires_grad_() for x in (query, feat)][: 1 if name == "block" else 2]
        sampling = Sampling.between(sizes, sizes, torch.device(device), query_prefix=prefix)
        sampling = Sampling(sampling.reference_points.to(dtype), sampling.spatial_shapes, sampling.level_start_index)
        more = {"block": (), "injector": (sampling, prefix), "extractor": (sampling, sizes)}[name]
        wanted = [*leaves, *(parameter for parameter in ours.parameters() if parameter.requires_grad)]
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            output = ours(*leaves, *more)
            results.append([output, *torch.autograd.grad(output.square().sum(), wanted)])
    for got, want in zip(*results, strict=True):
        assert error(got.cpu(), want) <= 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_on_a_cpu_it_is_a_sum_and_torchs_layer_norm(dtype):
    x, update, weight, bias = inputs((2, 5, 384), dtype, torch.float32, device="cpu")
    for added, want in ((update, x + update), (None, x), (update.float(), x + update.float())):
        total, normed = add_layer_norm(x, added, weight, bias, EPS)
        assert torch.equal(total, want)
        assert total.dtype == normed.dtype == want.dtype
        low = weight.to(want.dtype), bias.to(want.dtype)
        assert torch.equal(normed, F.layer_norm(want, (384,), *low, EPS))


def test_a_norms_hooks_see_it_where_the_sum_is_computed_with_it():
    seen = []
    block = Block(8, 2, 4, None)
    block.norm2.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs))
    block(torch.randn(2, 5, 8))
    ((total, normed),) = seen
    assert torch.equal(normed, LayerNorm(8)(total))


def test_without_update_the_sum_is_a_view_of_x_that_nothing_may_write_to():
    x, _, weight, bias = inputs((2, 384), torch.float32, torch.float32, device="meta")
    total, normed = _AddLayerNorm.apply(x, None, weight, bias, EPS)
    assert total._base is not None
    assert total.grad_fn is normed.grad_fn
    with pytest.raises(RuntimeError, match="modified inplace"):
        total.add_(1)
    with torch.no_grad():
        assert all(output.grad_fn is None for output in _AddLayerNorm.apply(x, None, weight, bias, EPS))


@pytest.mark.parametrize("with_update", [True, False], ids=["update", "no update"])
@pytest.mark.parametrize("upstream_of", [(True, True), (False, True), (True, False)], ids=["both", "normed", "sum"])
def test_meta_tensors_give_the_shapes_and_gradients_theirs(with_update, upstream_of):
    """The CUDA kernels give the same shapes (above)."""
    leaves = inputs((2, 5, 384), torch.bfloat16, torch.float32, device="meta")
    leaves[1] = leaves[1] if with_update else None
    outputs = _AddLayerNorm.apply(*leaves, EPS)
    assert [(output.shape, output.dtype) for output in outputs] == [(leaves[0].shape, torch.bfloat16)] * 2
    total, _, mean, rstd = torch.ops.racdino.add_layer_norm(*leaves, EPS)
    assert total.shape == (leaves[0].shape if with_update else (0,))
    assert mean.shape == rstd.shape == (2, 5)
    assert mean.dtype == rstd.dtype == torch.float32

    upstream = [torch.empty_like(leaves[0]) if there else None for there in upstream_of]
    leaves = [leaf for leaf in leaves if leaf is not None]
    for leaf, gradient in zip(leaves, gradients(outputs, leaves, upstream), strict=True):
        if upstream_of[1] or leaf.dim() > 1:
            assert (gradient.shape, gradient.dtype) == (leaf.shape, leaf.dtype)
        else:
            assert gradient is None
