"""DinoAdapter computes what its papers write down: compared in float64, values and gradients, with plain torch calls.

Here convolutions are convolutions, tokens are cut and joined, and nothing is kept, cast or folded.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from racdino.backbones import DinoAdapter
from racdino.ops import ms_deform_attn_reference


def layer_norm(norm, x):
    return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps)


def batch_norm(norm, x):
    mean, variance = norm.running_mean, norm.running_var
    if norm.training:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
    x = (x - mean.view(-1, 1, 1)) / (variance.view(-1, 1, 1) + norm.eps).sqrt()
    return x * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)


def convolve(conv, x, **arguments):
    return F.conv2d(x, conv.weight, conv.bias, **arguments)


def conv_bn_relu(layers, x, stride):
    return batch_norm(layers[1], convolve(layers[0], x, stride=stride, padding=1)).relu()


def spatial_prior(spm, x):
    for first, stride in ((0, 2), (3, 1), (6, 1)):
        x = conv_bn_relu(spm.stem[first : first + 2], x, stride)
    maps = [F.max_pool2d(x, 3, stride=2, padding=1)]
    for stage in (spm.conv2, spm.conv3, spm.conv4):
        maps.append(conv_bn_relu(stage, maps[-1], 2))
    return [convolve(fc, level) for fc, level in zip((spm.fc1, spm.fc2, spm.fc3, spm.fc4), maps, strict=True)]


def block(layers, x):
    B, N, C = x.shape
    q, k, v = layers.attn.qkv(layer_norm(layers.norm1, x)).view(B, N, 3, layers.attn.num_heads, -1).unbind(2)
    scores = torch.einsum("bnmd,bkmd->bmnk", q, k) / q.shape[-1] ** 0.5
    attended = torch.einsum("bmnk,bkmd->bnmd", scores.softmax(-1), v).reshape(B, N, C)
    x = x + layers.ls1.gamma * layers.attn.proj(attended)
    hidden = layers.mlp.fc1(layer_norm(layers.norm2, x))
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    return x + layers.ls2.gamma * layers.mlp.fc2(hidden)


def centres(sizes):
    """In float32, whatever the model computes in: places are rounded to a ten-millionth of the image."""
    places = [((x + 0.5) / W, (y + 0.5) / H) for H, W in sizes for y in range(H) for x in range(W)]
    return torch.tensor(places, dtype=torch.float32).double()


def look(layers, query, query_sizes, feat, feat_sizes):
    attn = layers.attn
    query, feat = layer_norm(layers.query_norm, query), layer_norm(layers.feat_norm, feat)
    B, Q, _ = query.shape
    M, L, P = attn.n_heads, attn.n_levels, attn.n_points
    offsets = attn.sampling_offsets(query).view(B, Q, M, L, P, 2)
    sides = torch.tensor([(W, H) for H, W in feat_sizes], dtype=torch.float64)
    locations = centres(query_sizes).view(1, Q, 1, 1, 1, 2) + offsets / sides.view(1, 1, 1, L, 1, 2)
    weights = attn.attention_weights(query).view(B, Q, M, L * P).softmax(-1).view(B, Q, M, L, P)
    starts = [sum(H * W for H, W in feat_sizes[:level]) for level in range(L)]
    value = attn.value_proj(feat).unflatten(2, (M, -1))
    return attn.output_proj(
        ms_deform_attn_reference(value, torch.tensor(feat_sizes), torch.tensor(starts), locations, weights)
    )


def to_map(tokens, size):
    return tokens.transpose(1, 2).unflatten(2, size)


def extract(layers, c, sizes, x, grid):
    c = c + look(layers, c, sizes, x, [grid])
    hidden = layers.ffn.fc1(layer_norm(layers.ffn_norm, c))
    levels = hidden.split([H * W for H, W in sizes], dim=1)
    conv = layers.ffn.dwconv.dwconv
    maps = [
        convolve(conv, to_map(t, size), padding=1, groups=t.shape[2]) for t, size in zip(levels, sizes, strict=True)
    ]
    hidden = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1)
    return c + layers.ffn.fc2(hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5)))


def resize(x, size):
    return F.interpolate(x, size, mode="bilinear", align_corners=False)


def plain(model, image):
    height, width = image.shape[2:]
    image = F.pad(image, (0, -width % 14, 0, -height % 14))
    grid = (image.shape[2] // 14, image.shape[3] // 14)
    c1, *levels = spatial_prior(model.spm, image)
    sizes = [tuple(level.shape[2:]) for level in levels]
    c = torch.cat([t.flatten(2).transpose(1, 2) + e for t, e in zip(levels, model.level_embed, strict=True)], dim=1)
    side = int((model.pos_embed.shape[1] - 1) ** 0.5)
    positions = F.interpolate(to_map(model.pos_embed[:, 1:], (side, side)), grid, mode="bicubic", align_corners=False)
    x = convolve(model.patch_embed.proj, image, stride=14) + positions
    x = x.flatten(2).transpose(1, 2)
    prefix = [(model.cls_token + model.pos_embed[:, :1]).expand(len(x), -1, -1)]
    if model.num_register_tokens:
        prefix.append(model.register_tokens.expand(len(x), -1, -1))
    prefix = torch.cat(prefix, dim=1)
    vit_maps = []
    for (first, last), interaction in zip(model.interaction_indexes, model.interactions, strict=True):
        x = x + interaction.injector.gamma * look(interaction.injector, x, [grid], c, sizes)
        tokens = torch.cat([prefix, x], dim=1)
        for layers in model.blocks[first : last + 1]:
            tokens = block(layers, tokens)
        prefix, x = tokens[:, : prefix.shape[1]], tokens[:, prefix.shape[1] :]
        for extractor in (interaction.extractor, *(interaction.extra_extractors or ())):
            c = extract(extractor, c, sizes, x, grid)
        vit_maps.append(to_map(x, grid))
    c2, c3, c4 = (to_map(t, size) for t, size in zip(c.split([H * W for H, W in sizes], 1), sizes, strict=True))
    f1 = c1 + resize(F.conv_transpose2d(c2, model.up.weight, model.up.bias, stride=2), c1.shape[2:])
    maps = [f1, c2, c3, c4]
    if model.add_vit_feature:
        maps = [level + resize(vit_map, level.shape[2:]) for level, vit_map in zip(maps, vit_maps, strict=True)]
    norms = (model.norm1, model.norm2, model.norm3, model.norm4)
    outputs = [
        batch_norm(norm, level)[:, :, : height // stride, : width // stride]
        for norm, level, stride in zip(norms, maps, (4, 8, 16, 32), strict=True)
    ]
    return [*outputs, vit_maps[-1][:, :, : height // 14, : width // 14]]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"freeze_dino": False}, {"num_register_tokens": 4, "with_cp": True}, {"add_vit_feature": True}],
    ids=str,
)
@pytest.mark.parametrize("size", [(45, 70), (64, 96)], ids=str)
def test_values_and_gradients_are_those_of_the_plain_formulation(size, changes, training):
    torch.manual_seed(0)
    model = DinoAdapter(
        num_heads=2, pretrain_size=56, pretrained_vit=False, embed_dim=24, depth=4, conv_inplane=8,
        deform_num_heads=6, interaction_indexes=[[0, 0], [1, 1], [2, 2], [3, 3]], **changes,
    )  # fmt: skip
    model.double().train(training)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor) if "running" in name else torch.randn_like(tensor) * 0.1)
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    expected = plain(model, x)
    maps, vit_map = model(x)
    leaves = {"image": x, **{name: p for name, p in model.named_parameters() if p.requires_grad}}
    upstream = [torch.randn_like(level) for level in expected]
    gradients = [
        torch.autograd.grad(outputs, list(leaves.values()), upstream) for outputs in (expected, [*maps, vit_map])
    ]
    for got, want in zip([*maps, vit_map], expected, strict=True):
        assert got.is_contiguous()
        assert (got - want).abs().max() <= 1e-12 * want.abs().max()
    scale = max(gradient.abs().max() for gradient in gradients[0])
    for name, want, got in zip(leaves, *gradients, strict=True):
        # a bias before a batch norm has no effect: its gradient is the rounding of the others
        assert (got - want).abs().max() <= 1e-11 * want.abs().max() + 1e-12 * scale, name
