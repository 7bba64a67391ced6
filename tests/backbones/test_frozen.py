"""Values kept from frozen parameters: computed once, never stale, and nowhere to be seen from outside."""

from __future__ import annotations

import copy
import io

import pytest
import torch

from racdino.backbones import DinoVisionTransformer
from racdino.backbones import position as position_module
from racdino.backbones.layers import LayerNorm, LayerScale, Linear, Mlp, summed


@pytest.fixture
def resizings(monkeypatch):
    """The sizes that a table was resized to, in the order of the work."""
    sizes = []
    resize = position_module.resize_position_grid

    def noted(table, height, width, *others):
        sizes.append((height, width))
        return resize(table, height, width, *others)

    monkeypatch.setattr(position_module, "resize_position_grid", noted)
    return sizes


def tiny(frozen=True):
    torch.manual_seed(0)
    model = DinoVisionTransformer(56, 14, 8, 1, 2, init_values=1.0)
    return model.requires_grad_(not frozen).eval()


def position(model, height=2, width=3):
    return model.position_embedding(height, width, 0.1, False)


def test_a_frozen_table_is_resized_once_per_size(resizings):
    model = tiny()
    for _ in range(3):
        for size in ((28, 42), (42, 28)):
            model(torch.zeros(1, 3, *size))
    assert resizings == [(2, 3), (3, 2)]


def test_a_table_that_trains_is_resized_in_every_call_with_a_gradient(resizings):
    model = tiny(frozen=False)
    for _ in range(2):
        position(model).sum().backward()
    assert len(resizings) == 2
    assert model.pos_embed.grad[:, 1:].any()


def write_in_place(model):
    with torch.no_grad():
        model.pos_embed.mul_(2)


def load(model):
    model.load_state_dict({name: 2 * value for name, value in model.state_dict().items()})


def replace(model):
    model.pos_embed = torch.nn.Parameter(2 * model.pos_embed, requires_grad=False)


def point_elsewhere(model):
    model.pos_embed.data = 2 * model.pos_embed


def train_through_data(model):
    """As weight averaging does, which torch does not count: only what does not train is remembered."""
    model.requires_grad_(True)
    model.pos_embed.data.mul_(2)


@pytest.mark.parametrize("change", [write_in_place, load, replace, point_elsewhere, train_through_data])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_a_change_of_the_parameter_is_seen(change, mode):
    model = tiny()
    with mode():
        before = position(model).clone()
    change(model)
    with mode():
        assert torch.equal(position(model), 2 * before)


def test_what_inference_mode_computed_serves_training():
    model = tiny()
    with torch.inference_mode():
        model(torch.zeros(1, 3, 28, 42))
    model.blocks.requires_grad_(True)
    model(torch.ones(1, 3, 28, 42)).sum().backward()
    assert model.blocks[0].attn.qkv.weight.grad is not None


def test_moving_the_model_moves_what_it_keeps_and_leaves_no_memory_behind():
    model = tiny()
    exact = position(model).double()
    model.double()
    assert not model._kept
    assert position(model).dtype == torch.float64
    assert torch.allclose(position(model), exact, atol=1e-7)


def test_copies_and_pickles_keep_nothing_and_work():
    model = tiny()
    expected = model(torch.zeros(1, 3, 28, 42))
    names = model.state_dict().keys()
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for other in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        assert not any(getattr(module, "_kept", None) for module in other.modules())
        assert torch.equal(other(torch.zeros(1, 3, 28, 42)), expected)
        write_in_place(other)
        assert not torch.equal(position(other), position(model))
        assert other.state_dict().keys() == names == tiny().state_dict().keys()


def test_a_stream_of_sizes_does_not_pile_up():
    model = tiny()
    for width in range(1, 40):
        position(model, 1, width)
    assert len(model._kept) < 30


@pytest.mark.parametrize("trains", [False, True])
def test_layers_compute_in_the_dtype_of_their_input(trains):
    """float32 weights and a 16-bit input: the result and the gradients are those of weights cast beforehand."""
    torch.manual_seed(0)
    x = torch.randn(5, 8, dtype=torch.bfloat16)
    for layer, arguments in ((Linear(8, 4), (x,)), (LayerNorm(8), (x,))):
        for parameter in layer.parameters():
            torch.nn.init.normal_(parameter)
        layer.requires_grad_(trains)
        low = copy.deepcopy(layer).bfloat16()
        for _ in range(2):
            got, want = layer(*arguments), low(*arguments)
            assert got.dtype == torch.bfloat16
            assert torch.equal(got, want)
        if trains:
            got.float().sum().backward()
            want.float().sum().backward()
            for mine, other in zip(layer.parameters(), low.parameters(), strict=True):
                assert mine.grad.dtype == torch.float32
                assert torch.equal(mine.grad, other.grad.float())


@pytest.mark.parametrize("trains", ["neither", "gamma", "layer"])
def test_a_layer_and_its_scale_are_multiplied_once_where_both_are_frozen(trains):
    torch.manual_seed(0)
    scale, layer = LayerScale(8, 0.3).double(), Mlp(8, 16).double()
    for parameter in (*scale.parameters(), *layer.parameters()):
        torch.nn.init.normal_(parameter)
    scale.requires_grad_(trains == "gamma")
    layer.requires_grad_(trains == "layer")
    x, residual = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True), torch.randn(2, 5, 8).double()
    for _ in range(2):
        want = residual + scale.gamma * layer(x)
        got = summed(*scale.terms(x, layer, residual))
        assert (got - want).abs().max() <= 1e-14 * want.abs().max()
        gradients = [torch.autograd.grad(out.sum(), x)[0] for out in (got, want)]
        assert (gradients[0] - gradients[1]).abs().max() <= 1e-13 * gradients[1].abs().max()
        assert len(scale._kept) == (trains == "neither")
        with torch.no_grad():
            layer.fc2.bias.add_(1)  # noticed


def test_under_autocast_a_layer_norm_stays_in_the_dtype_of_its_input():
    layer, x = LayerNorm(8), torch.randn(5, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.float32
        assert layer(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.skipif(not hasattr(torch, "compiler"), reason="torch 2.0 cannot tell that it compiles")
def test_compiles_whole_and_keeps_nothing():
    model, x = tiny(), torch.randn(1, 3, 28, 42)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert (compiled(x) - model(x)).abs().max() <= 1e-6
    fresh = tiny()
    torch.compile(fresh, backend="eager", fullgraph=True)(x)
    assert not fresh._kept


@pytest.mark.skipif(not hasattr(torch, "compiler"), reason="torch 2.0 cannot tell that it compiles")
def test_a_compiled_model_resizes_a_frozen_table_once_until_it_is_written_to(resizings):
    model, x = tiny(), torch.randn(1, 3, 28, 42)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        first = compiled(x)
        assert torch.equal(compiled(x), first)
        assert resizings == [(2, 3)]
        model.pos_embed.normal_()
        assert (compiled(x) - first).abs().max() > 0.01
        assert resizings == [(2, 3)] * 2
        assert (compiled(x) - model(x)).abs().max() <= 1e-6
