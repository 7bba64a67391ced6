"""Names and shapes of the parameters are those of the published weight files."""

from __future__ import annotations

import pytest
import torch

from racdino import backbones
from racdino.weights import CATALOGUE, Published

FACTORIES = {name: getattr(backbones, name) for name, entry in CATALOGUE.items() if isinstance(entry, Published)}


def published_layout(embed_dim, depth, ffn_layer, registers):
    """Names and shapes in a published file, from the description of the format."""
    C = embed_dim
    layout = {"cls_token": (1, 1, C), "pos_embed": (1, 1370, C), "mask_token": (1, C)}
    if registers:
        layout["register_tokens"] = (1, registers, C)
    layout |= {"patch_embed.proj.weight": (C, 3, 14, 14), "patch_embed.proj.bias": (C,)}
    hidden = (int(4 * C * 2 / 3) + 7) // 8 * 8
    for i in range(depth):
        block = {"norm1.weight": (C,), "norm1.bias": (C,), "attn.qkv.weight": (3 * C, C), "attn.qkv.bias": (3 * C,)}
        block |= {"attn.proj.weight": (C, C), "attn.proj.bias": (C,), "ls1.gamma": (C,)}
        block |= {"norm2.weight": (C,), "norm2.bias": (C,), "ls2.gamma": (C,)}
        if ffn_layer == "mlp":
            block |= {"mlp.fc1.weight": (4 * C, C), "mlp.fc1.bias": (4 * C,)}
            block |= {"mlp.fc2.weight": (C, 4 * C), "mlp.fc2.bias": (C,)}
        else:
            block |= {"mlp.w12.weight": (2 * hidden, C), "mlp.w12.bias": (2 * hidden,)}
            block |= {"mlp.w3.weight": (C, hidden), "mlp.w3.bias": (C,)}
        layout |= {f"blocks.{i}.{key}": shape for key, shape in block.items()}
    return layout | {"norm.weight": (C,), "norm.bias": (C,)}


@pytest.mark.parametrize("name", FACTORIES)
def test_state_dict_has_the_published_names_and_shapes(name):
    with torch.device("meta"):
        model = FACTORIES[name]()
    sizes = {"s": (384, 12, "mlp"), "b": (768, 12, "mlp"), "l": (1024, 24, "mlp"), "g": (1536, 40, "swiglu")}
    registers = 4 if name.endswith("_reg") else 0
    expected = published_layout(*sizes[name[len("dinov2_vit")]], registers)
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == expected
    assert (model.interpolate_antialias, model.interpolate_offset) == ((True, 0.0) if registers else (False, 0.1))
    assert all(block.norm1.eps == 1e-6 for block in model.blocks)


@pytest.mark.parametrize("name", [name for name, entry in CATALOGUE.items() if entry.size])
def test_parameters_fill_the_published_file(name):
    """Four bytes each; the rest of the file is the archive's directory."""
    with torch.device("meta"):
        parameters = sum(value.numel() for value in FACTORIES[name]().state_dict().values())
    assert 0 < CATALOGUE[name].size - 4 * parameters < 100_000
