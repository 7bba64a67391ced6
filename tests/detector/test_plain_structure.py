"""The peer of benchmarks/training.py computes what we compute: its ratio is one of speed alone."""

from __future__ import annotations

import pytest
import torch
from small_detector import ADAPTER, make_batch, small_config
from training_reference import make_plain

from racdino.detector import build


@pytest.mark.parametrize("with_cp", [False, True])
def test_the_plain_structure_has_our_losses_and_gradients(with_cp):
    batch, losses, gradients = make_batch(1), [], []
    for plain in (False, True):
        torch.manual_seed(0)
        model = build(small_config(dinov2_adapter={**ADAPTER, "with_cp": with_cp}))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1 and not parameter.any():
                    parameter.normal_(std=0.01)
        model = make_plain(model) if plain else model
        found = model.loss(batch)
        sum(found.values()).backward()
        losses.append({name: float(loss) for name, loss in found.items()})
        image_parts = (model.img_backbone, model.dinov2_adapter, model.adapter_fusion, model.img_neck)
        gradients.append([p.grad.norm() for part in image_parts for p in part.parameters() if p.requires_grad])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    torch.testing.assert_close(*map(torch.stack, gradients), rtol=1e-3, atol=1e-5 * max(gradients[1]).item())
