"""DinoAdapter computes what its papers write down: compared in float64, values and gradients, with plain torch calls.

The plain calls are those of benchmarks/backbone_reference.py, with the operator's plain-torch reference.
"""

from __future__ import annotations

import pytest
import torch
from backbone_reference import plain_adapter

from racdino.backbones import DinoAdapter
from racdino.ops import ms_deform_attn_reference


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
    plain_maps, plain_vit_map = plain_adapter(model, x, ms_deform_attn_reference)
    expected = [*plain_maps, plain_vit_map]
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
