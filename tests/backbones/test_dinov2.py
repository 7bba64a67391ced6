"""The trunk equals timm's DINOv2 with the same weights, and says what it cannot take."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from racdino import backbones
from racdino.backbones import DinoVisionTransformer, layers

timm = pytest.importorskip("timm")
SIZE = (70, 98)  # pixels: a rectangular grid of 5 x 7, trained on 4 x 4


def randomised(model):
    """Every parameter random, so that none of them hides behind a zero or a one."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model.eval()


def tiny(registers=0, ffn_layer="mlp"):
    return randomised(
        DinoVisionTransformer(
            img_size=56, patch_size=14, embed_dim=24, depth=3, num_heads=3, init_values=1.0, ffn_layer=ffn_layer,
            num_register_tokens=registers, interpolate_antialias=registers > 0,
            interpolate_offset=0.0 if registers else 0.1,
        )
    )  # fmt: skip


def load_timm(reference, model, size):
    """Our weights under timm's names; timm folds the class token's position into the token when there are registers."""
    height, width = size[0] // 14, size[1] // 14
    state = {k.replace("mlp.w12", "mlp.fc1").replace("mlp.w3", "mlp.fc2"): v for k, v in model.state_dict().items()}
    del state["mask_token"]
    position = model.position_embedding(height, width, model.interpolate_offset, model.interpolate_antialias)
    if model.num_register_tokens:
        state["cls_token"] = state["cls_token"] + model.pos_embed[:, :1]
        state["reg_token"] = state.pop("register_tokens")
        state["pos_embed"] = position
    else:
        state["pos_embed"] = torch.cat((model.pos_embed[:, :1], position), dim=1)
    reference.load_state_dict(state, strict=True)
    return reference.eval()


def timm_model(model, size):
    registers = model.num_register_tokens
    block = model.blocks[0].mlp
    gated = (
        {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": nn.SiLU, "mlp_ratio": block.w12.out_features / 24}
        if hasattr(block, "w12")
        else {}
    )
    reference = timm.models.VisionTransformer(
        img_size=size, patch_size=14, num_classes=0, global_pool="token", embed_dim=24, depth=3, num_heads=3,
        init_values=1.0, reg_tokens=registers, no_embed_class=registers > 0, **gated,
    )  # fmt: skip
    return load_timm(reference, model, size)


def assert_close(got, want):
    assert got.shape == want.shape
    assert (got - want).abs().max() <= 1e-5 * want.abs().max()


@pytest.mark.parametrize("size", [SIZE, (56, 56)], ids=["rectangle", "as trained"])
@pytest.mark.parametrize(("registers", "ffn_layer"), [(0, "mlp"), (4, "mlp"), (0, "swiglufused"), (4, "swiglufused")])
@torch.no_grad()
def test_outputs_equal_timm(registers, ffn_layer, size):
    model = tiny(registers, ffn_layer)
    reference = timm_model(model, size)
    x = torch.randn(2, 3, *size)
    features = model.forward_features(x)
    expected = reference.forward_features(x)
    assert_close(features["x_norm_clstoken"], expected[:, 0])
    if registers:
        assert_close(features["x_norm_regtokens"], expected[:, 1 : 1 + registers])
    assert_close(features["x_norm_patchtokens"], expected[:, 1 + registers :])
    assert_close(model.norm(features["x_prenorm"]), expected)
    assert_close(model(x), expected[:, 0])
    assert features["masks"] is None


@pytest.mark.parametrize("registers", [0, 4])
@torch.no_grad()
def test_intermediate_layers_equal_timm(registers):
    model = tiny(registers)
    reference = timm_model(model, SIZE)
    x = torch.randn(2, 3, *SIZE)
    for n in (1, 2, [0, 2]):
        for norm in (True, False):
            got = model.get_intermediate_layers(x, n, reshape=True, return_class_token=True, norm=norm)
            # timm returns all prefix tokens; the class token is the first of them
            want = reference.get_intermediate_layers(x, n, reshape=True, return_prefix_tokens=True, norm=norm)
            for (patches, class_token), (want_patches, want_prefix) in zip(got, want, strict=True):
                assert_close(patches, want_patches)
                assert_close(class_token, want_prefix[:, 0])
    tokens = model.get_intermediate_layers(x)
    assert_close(tokens[0], model.forward_features(x)["x_norm_patchtokens"])


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "training"])
def test_gradients_equal_timm(frozen):
    model = tiny().requires_grad_(not frozen)
    reference = timm_model(model, SIZE).requires_grad_(not frozen)
    x = torch.randn(2, 3, *SIZE, requires_grad=True)
    outputs = [model.norm(model.forward_features(x)["x_prenorm"]), reference.forward_features(x)]
    upstream = torch.randn_like(outputs[0])
    leaves = [x] if frozen else [x, model.blocks[0].attn.qkv.weight, model.blocks[2].attn.qkv.bias]
    peers = [x] if frozen else [x, reference.blocks[0].attn.qkv.weight, reference.blocks[2].attn.qkv.bias]
    gradients = [torch.autograd.grad(o, of, upstream) for o, of in zip(outputs, (leaves, peers), strict=True)]
    for got, want in zip(*gradients, strict=True):
        assert_close(got, want)


@torch.no_grad()
def test_a_whole_vit_s_equals_timm():
    size = (112, 154)
    model = randomised(backbones.dinov2_vits14())
    reference = timm.create_model("vit_small_patch14_dinov2.lvd142m", pretrained=False, img_size=size)
    x = torch.randn(1, 3, *size)
    assert_close(
        model.forward_features(x)["x_norm_patchtokens"], load_timm(reference, model, size).forward_features(x)[:, 1:]
    )


@torch.no_grad()
def test_masked_patches_become_the_mask_token():
    model = tiny()
    x = torch.randn(1, 3, 56, 56)
    masks = torch.zeros(1, 16, dtype=torch.bool)
    masks[0, 5] = True
    tokens = model.prepare_tokens_with_masks(x, masks)
    assert_close(tokens[0, 1 + 5], model.mask_token[0] + model.pos_embed[0, 1 + 5])
    assert torch.equal(tokens[0, 1 + 6], model.prepare_tokens_with_masks(x)[0, 1 + 6])
    assert torch.equal(model(x, masks, is_training=True)["masks"], masks)


@pytest.mark.parametrize("spare", [0, 2])
@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "trains"])
def test_patches_are_embedded_by_the_convolution_of_the_weights(frozen, spare, monkeypatch):
    """Also with the columns of zeros that a GPU's 16-bit products get."""
    monkeypatch.setattr(layers, "_spare", lambda *_: spare)
    embed = tiny().patch_embed.double().requires_grad_(not frozen)
    x = torch.randn(2, 3, *SIZE, dtype=torch.float64, requires_grad=True)
    leaves = [x, *(parameter for parameter in embed.parameters() if parameter.requires_grad)]
    for _ in range(2):
        got, want = embed(x), embed.proj(x).flatten(2).transpose(1, 2)
        upstream = torch.randn_like(want)
        gradients = [torch.autograd.grad(output, leaves, upstream) for output in (got, want)]
        for one, other in zip((got, *gradients[0]), (want, *gradients[1]), strict=True):
            assert (one - other).abs().max() <= 1e-13 * other.abs().max()
        with torch.no_grad():
            embed.proj.weight.mul_(2)  # noticed


class Doubled(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, x):
        return 2 * self.block(x)


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "trains"])
def test_blocks_left_to_the_next_norm_are_those_nobody_listens_to_or_replaced(frozen, monkeypatch):
    """As on a GPU, whose operators compute the sums; here plain torch does."""
    model, heard = tiny().requires_grad_(not frozen), []
    model.blocks[2] = Doubled(model.blocks[2])
    handle = model.blocks[0].register_forward_hook(lambda _, __, output: heard.append(output))
    x = torch.randn(2, 3, *SIZE)
    tokens = [model.prepare_tokens_with_masks(x)]
    for block in model.blocks:
        tokens.append(block(tokens[-1]))
    monkeypatch.setattr(layers, "served", lambda _: True)
    assert torch.equal(model.forward_features(x)["x_prenorm"], tokens[-1])
    assert all(torch.equal(output, tokens[1]) for output in heard)
    assert len(heard) == 2
    handle.remove()
    assert torch.equal(model.forward_features(x)["x_prenorm"], tokens[-1])
    assert len(heard) == 2
    forward = model.blocks[1].forward
    model.blocks[1].forward = lambda x: heard.append(x) or forward(x)  # as accelerate wraps modules
    assert torch.equal(model.forward_features(x)["x_prenorm"], tokens[-1])
    assert torch.equal(heard[2], tokens[1])


class LowRank(nn.Module):
    """As LoRA wraps a linear layer, whose frozen parameters it shows as its own."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.weight, self.bias = layer, layer.weight, layer.bias
        self.down, self.up = nn.Linear(layer.in_features, 2), nn.Linear(2, layer.out_features)

    def forward(self, x):
        return self.layer(x) + self.up(self.down(x))


def written_out(block, x):
    """As DINOv2 writes it, by calls of its modules."""
    x = x + block.ls1(block.attn(block.norm1(x)))
    return x + block.ls2(block.mlp(block.norm2(x)))


@pytest.mark.parametrize("change", ["nothing", "low rank", "another layer"])
@torch.no_grad()
def test_a_frozen_block_is_the_sum_of_what_its_modules_return(change):
    block = tiny().requires_grad_(False).blocks[0]
    if change == "low rank":
        block.attn.proj, block.mlp.fc2 = LowRank(block.attn.proj), LowRank(block.mlp.fc2)
    if change == "another layer":
        block.attn, block.mlp = nn.Linear(24, 24), nn.Linear(24, 24)
    x = torch.randn(2, 5, 24)
    for _ in range(2):  # a product of frozen weights is kept from the first
        assert_close(block(x), written_out(block, x))


@pytest.mark.parametrize("name", ["norm1", "attn", "attn.qkv", "attn.proj", "ls1", "norm2", "mlp", "mlp.fc2", "ls2"])
@torch.no_grad()
def test_a_module_of_a_frozen_block_is_called_where_someone_listens(name):
    block, heard = tiny().requires_grad_(False).blocks[0], []
    x = torch.randn(2, 5, 24)
    want = block(x)
    block.get_submodule(name).register_forward_hook(lambda *_: heard.append(name))
    assert_close(block(x), want)
    assert heard == [name]


@torch.no_grad()
def test_a_patch_projection_of_another_kind_is_called():
    model, x = tiny(), torch.randn(2, 3, *SIZE)
    want = 2 * model.patch_embed(x)
    model.patch_embed.proj = Doubled(model.patch_embed.proj)
    assert_close(model.patch_embed(x), want)


@pytest.mark.skipif(not hasattr(nn.Module, "compile"), reason="modules compile themselves since torch 2.2")
def test_a_block_that_was_compiled_is_called(monkeypatch):
    model, graphs = tiny(), []
    monkeypatch.setattr(layers, "served", lambda _: True)
    x = torch.randn(2, 3, *SIZE)
    want = model(x)
    model.blocks[1].compile(backend=lambda graph, _: graphs.append(graph) or graph.forward)
    assert_close(model(x), want)
    assert len(graphs) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"img_size": 500}, "img_size 500 does not divide by patch_size 16"),
        ({"num_heads": 7}, "embed_dim 768 does not divide by num_heads 7"),
        ({"ffn_layer": "relu"}, "there is no ffn_layer 'relu'; there are mlp, swiglu, swiglufused"),
    ],
)
def test_impossible_arguments_are_named(arguments, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        DinoVisionTransformer(**arguments)


def test_impossible_calls_are_named():
    model = tiny()
    with pytest.raises(ValueError, match="an image of 56x57 does not divide into patches of 14x14 pixels"):
        model(torch.zeros(1, 3, 56, 57))
    for n in (0, 4, [3], [-1]):
        with pytest.raises(ValueError, match="does not name blocks of the 3 there are"):
            model.get_intermediate_layers(torch.zeros(1, 3, 56, 56), n)
