"""Bring a checkpoint's weights into a model: everything is compared first, then everything is copied, or nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from racdino.environment.hashing import sha256
from racdino.weights.catalogue import CATALOGUE, has_hash, shown_hash
from racdino.weights.checkpoint import CheckpointError, read_checkpoint

_HEADS = ("dino_head.", "ibot_head.")  # DINOv2's training heads: no part of the backbone
_CHUNKED_BLOCK = re.compile(r"^blocks\.\d+\.(\d+)\.")  # FSDP training groups the blocks: blocks.<chunk>.<index>.


def load_into(module: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load a DINOv2 checkpoint, every key and shape checked; ``module`` is unchanged unless all of it fits.

    Accepts the published files, and training checkpoints (``teacher``, ``backbone.`` prefix, chunked block names). A
    file that carries the name of a published one must have its sha256.

    Raises:
        CheckpointError: names the file and every missing, unexpected or differently shaped key.
    """
    path = Path(path)
    check_hash(path)
    weights = backbone_state_dict(read_checkpoint(path), path)
    expected = module.state_dict()
    complaints = [f"missing {key}" for key in expected if key not in weights]
    complaints += [f"unexpected {key}" for key in weights if key not in expected]
    complaints += [
        f"{key} is {tuple(value.shape)} where the model has {tuple(expected[key].shape)}"
        for key, value in weights.items()
        if key in expected and value.shape != expected[key].shape
    ]
    if complaints:
        raise CheckpointError(f"{path} does not fit the model: {'; '.join(complaints)}")
    module.load_state_dict(weights, strict=True)


def check_hash(path: Path) -> None:
    """CheckpointError when ``path`` has the name of a published file but not its sha256."""
    for entry in CATALOGUE.values():
        if entry.file == path.name and not has_hash(entry, found := sha256(path)):
            raise CheckpointError(
                f"{path} has sha256 {found}, the published file {shown_hash(entry)}: move it away and fetch it again "
                f"with `racdino weights fetch {entry.name}`, or rename it if it is meant to differ"
            )


def backbone_state_dict(content: Any, path: Path) -> dict[str, torch.Tensor]:
    """The backbone's tensors of a published or training checkpoint under their published names."""
    if isinstance(content, Mapping) and isinstance(content.get("teacher"), Mapping):
        content = content["teacher"]
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        raise CheckpointError(f"{path} holds no state dict (names with tensors)")
    if any(key.startswith("teacher.") for key in content):
        content = {key.removeprefix("teacher."): value for key, value in content.items() if key.startswith("teacher.")}
    if any(key.startswith("backbone.") for key in content):
        content = {key: value for key, value in content.items() if not key.startswith(_HEADS)}
    weights: dict[str, torch.Tensor] = {}
    for key, value in content.items():
        name = _CHUNKED_BLOCK.sub(r"blocks.\1.", key.removeprefix("backbone."))
        if not isinstance(value, torch.Tensor):
            raise CheckpointError(f"{path} holds {type(value).__name__} where a tensor belongs, at {key}")
        if name in weights:
            raise CheckpointError(f"{path} has two tensors for {name}")
        weights[name] = value
    return weights
