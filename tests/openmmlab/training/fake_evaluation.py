"""Imported by a config: evaluation that draws random numbers and writes down what it was given."""

from __future__ import annotations

import torch

from racdino.openmmlab import evaluate


def evaluate_model(model, config, output, split="val"):
    torch.randn(3)
    return {"NDS": 0.25, "mAP": 0.5, "sum": float(sum(value.double().sum() for value in model.state_dict().values()))}


evaluate.evaluate_model = evaluate_model
