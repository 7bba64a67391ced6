"""The plain formulation of DinoAdapter, as a peer and for tests: its papers written down in torch's own calls.

Here convolutions are convolutions, tokens are cut and joined, position embeddings are resized in every call, and
nothing is kept, folded or cast but by autocast. Same parameters, same numbers up to rounding.
Sources: Chen et al. 2023, arXiv:2205.08534 (ViT-Adapter); Oquab et al. 2023, arXiv:2304.07193 (DINOv2).

Shape letters: B images, N transformer tokens, S pyramid tokens, Q queries, M heads, L levels, P points, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from racdino.backbones import DinoAdapter

Size = tuple[int, int]  # height, width
Deform = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]  # as `racdino.ops.ms_deform_attn`


def plain_adapter(model: DinoAdapter, image: Tensor, deform: Deform) -> tuple[list[Tensor], Tensor]:
    """What ``model(image)`` returns; ``deform`` computes the multi-scale deformable attention."""
    height, width = image.shape[2:]
    patch = model.patch_size
    image = F.pad(image, (0, -width % patch, 0, -height % patch))
    grid = (image.shape[2] // patch, image.shape[3] // patch)
    c1, *levels = _spatial_prior(model.spm, image)
    sizes = [tuple(level.shape[2:]) for level in levels]
    c = torch.cat([t.flatten(2).transpose(1, 2) + e for t, e in zip(levels, model.level_embed, strict=True)], dim=1)
    side = int((model.pos_embed.shape[1] - 1) ** 0.5)
    table = _to_map(model.pos_embed[:, 1:], (side, side))
    positions = F.interpolate(table, grid, mode="bicubic", align_corners=False)
    x = _convolve(model.patch_embed.proj, image, stride=patch) + positions
    x = x.flatten(2).transpose(1, 2)
    first = [(model.cls_token + model.pos_embed[:, :1]).expand(len(x), -1, -1)]
    if model.num_register_tokens:
        first.append(model.register_tokens.expand(len(x), -1, -1))
    prefix = torch.cat(first, dim=1)
    vit_maps = []
    for group, interaction in zip(model.interaction_indexes, model.interactions, strict=True):
        run = _recomputed if interaction.with_cp and torch.is_grad_enabled() else _called
        x = run(_inject, interaction.injector, x, grid, c, sizes, deform)
        tokens = torch.cat([prefix, x], dim=1)
        for layers in model.blocks[group[0] : group[1] + 1]:
            tokens = run(_block, layers, tokens)
        prefix, x = tokens[:, : prefix.shape[1]], tokens[:, prefix.shape[1] :]
        for extractor in (interaction.extractor, *(interaction.extra_extractors or ())):
            c = run(_extract, extractor, c, sizes, x, grid, deform)
        vit_maps.append(_to_map(x, grid))
    c2, c3, c4 = (_to_map(t, size) for t, size in zip(c.split([H * W for H, W in sizes], 1), sizes, strict=True))
    f1 = c1 + _resize(F.conv_transpose2d(c2, model.up.weight, model.up.bias, stride=2), c1.shape[2:])
    maps = [f1, c2, c3, c4]
    if model.add_vit_feature:
        maps = [level + _resize(vit_map, level.shape[2:]) for level, vit_map in zip(maps, vit_maps, strict=True)]
    norms = (model.norm1, model.norm2, model.norm3, model.norm4)
    outputs = [
        norm(level)[:, :, : height // stride, : width // stride]
        for norm, level, stride in zip(norms, maps, (4, 8, 16, 32), strict=True)
    ]
    return outputs, vit_maps[-1][:, :, : height // patch, : width // patch]


def _called(step: Callable[..., Tensor], *arguments: Any) -> Tensor:
    return step(*arguments)


def _recomputed(step: Callable[..., Tensor], *arguments: Any) -> Tensor:
    return checkpoint(step, *arguments, use_reentrant=False)


# Weights go into torch's functions as they are: the modules' own forward casts frozen ones once and keeps that.


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)


def _layer_norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps)


def _convolve(conv: nn.Conv2d, x: Tensor, **arguments: Any) -> Tensor:
    return F.conv2d(x, conv.weight, conv.bias, **arguments)


def _conv_bn_relu(layers: Sequence[nn.Module], x: Tensor, stride: int) -> Tensor:
    return F.relu(layers[1](_convolve(layers[0], x, stride=stride, padding=1)), inplace=True)


def _spatial_prior(spm: Any, x: Tensor) -> list[Tensor]:
    for first, stride in ((0, 2), (3, 1), (6, 1)):
        x = _conv_bn_relu(spm.stem[first : first + 2], x, stride)
    maps = [F.max_pool2d(x, 3, stride=2, padding=1)]
    for stage in (spm.conv2, spm.conv3, spm.conv4):
        maps.append(_conv_bn_relu(stage, maps[-1], 2))
    return [_convolve(fc, level) for fc, level in zip((spm.fc1, spm.fc2, spm.fc3, spm.fc4), maps, strict=True)]


def _block(layers: Any, x: Tensor) -> Tensor:
    B, N, C = x.shape
    qkv = _linear(layers.attn.qkv, _layer_norm(layers.norm1, x)).view(B, N, 3, layers.attn.num_heads, -1)
    attended = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4).unbind(0))
    x = x + layers.ls1.gamma * _linear(layers.attn.proj, attended.transpose(1, 2).reshape(B, N, C))
    hidden = F.gelu(_linear(layers.mlp.fc1, _layer_norm(layers.norm2, x)))
    return x + layers.ls2.gamma * _linear(layers.mlp.fc2, hidden)


def _centres(sizes: Sequence[Size], device: torch.device) -> Tensor:
    """(H * W of all sizes, 2) as (x, y). In float32, whatever the model computes in."""
    points = []
    for H, W in sizes:
        y = (torch.arange(H, dtype=torch.float32, device=device) + 0.5) / H
        x = (torch.arange(W, dtype=torch.float32, device=device) + 0.5) / W
        points.append(torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).flatten(0, 1))
    return torch.cat(points)


def _look(
    layers: Any, query: Tensor, query_sizes: Sequence[Size], feat: Tensor, feat_sizes: Sequence[Size], deform: Deform
) -> Tensor:
    attn = layers.attn
    query, feat = _layer_norm(layers.query_norm, query), _layer_norm(layers.feat_norm, feat)
    B, Q, _ = query.shape
    M, L, P = attn.n_heads, attn.n_levels, attn.n_points
    value = _linear(attn.value_proj, feat).unflatten(2, (M, -1))
    offsets = _linear(attn.sampling_offsets, query).view(B, Q, M, L, P, 2)
    weights = _linear(attn.attention_weights, query).view(B, Q, M, L * P).softmax(-1).view(B, Q, M, L, P)
    shapes = torch.tensor(feat_sizes, device=query.device)
    starts = torch.cat([shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]])
    locations = _centres(query_sizes, query.device).view(1, Q, 1, 1, 1, 2) + offsets / shapes.flip(1).view(L, 1, 2)
    return _linear(attn.output_proj, deform(value, shapes, starts, locations, weights))


def _inject(injector: Any, x: Tensor, grid: Size, c: Tensor, sizes: Sequence[Size], deform: Deform) -> Tensor:
    return x + injector.gamma * _look(injector, x, [grid], c, sizes, deform)


def _extract(layers: Any, c: Tensor, sizes: Sequence[Size], x: Tensor, grid: Size, deform: Deform) -> Tensor:
    c = c + _look(layers, c, sizes, x, [grid], deform)
    hidden = _linear(layers.ffn.fc1, _layer_norm(layers.ffn_norm, c))
    levels = hidden.split([H * W for H, W in sizes], dim=1)
    conv = layers.ffn.dwconv.dwconv
    maps = [
        _convolve(conv, _to_map(t, size), padding=1, groups=t.shape[2]) for t, size in zip(levels, sizes, strict=True)
    ]
    hidden = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1)
    return c + _linear(layers.ffn.fc2, F.gelu(hidden))


def _to_map(tokens: Tensor, size: Size) -> Tensor:
    """(B, H*W, C) to (B, C, H, W), contiguous as people write it."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *size)


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=False)
