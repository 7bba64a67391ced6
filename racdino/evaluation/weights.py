"""A detector's checkpoint into its model: every name and shape, or one sentence that says which do not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from racdino.weights.checkpoint import CheckpointError, read_checkpoint

_BOXES = "v1.0.0"  # the mmdet3d convention of yaw and sizes that `version` of upstream's checkpoints names
_SHOWN = 3  # names of each complaint


def load_detector(model: nn.Module, path: Path, class_names: Sequence[str]) -> list[str]:
    """Load ``path`` strictly; ``model`` is unchanged unless all of it fits.

    Of a run with averaged weights (EMA) the averages are taken. Nothing in the file is executed.

    Args:
        class_names: what the config's labels mean.
    Returns:
        Sentences worth telling: the epoch, whether the weights are averages.
    Raises:
        CheckpointError: the file is missing, damaged, of the old box convention or of other classes, or does not fit.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint at {path}.")
    content = read_checkpoint(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds no state dict (names with tensors).")
    version = content.get("version", _BOXES)
    if version != _BOXES:
        raise CheckpointError(
            f"{path} was trained with the boxes of mmdet3d {version} (yaw and sizes are defined differently before "
            f"v1.0), which its weights have learnt: take a checkpoint of {_BOXES} or train again."
        )
    meta = content.get("meta")
    trained_on = meta.get("CLASSES") if isinstance(meta, Mapping) else None
    if trained_on and list(trained_on) != list(class_names):
        raise CheckpointError(
            f"{path} was trained on the classes {', '.join(trained_on)}, the config has {', '.join(class_names)}: its "
            "labels would mean other things, so give the config the checkpoint's classes in their order."
        )
    weights, notes = _weights(content, path)
    _compare(weights, model.state_dict(), path)
    model.load_state_dict(weights, strict=True)
    return notes


def _weights(content: Mapping, path: Path) -> tuple[dict[str, Tensor], list[str]]:
    state = content.get("state_dict", content)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} holds no state dict (names with tensors).")
    weights = {name.removeprefix("module."): value for name, value in state.items()}
    # mmcv's EMAHook saves the averages under the model's names and those of training behind this prefix.
    training = [name for name in weights if name.startswith("ema_")]
    for name in training:
        del weights[name]
    notes = []
    meta, average = content.get("meta"), content.get("average")
    if isinstance(meta, Mapping) and isinstance(meta.get("epoch"), int):
        notes.append(f"{path.name} is of epoch {meta['epoch']}.")
    if isinstance(average, Mapping):
        notes.append(f"Its weights are averages (EMA) over {average.get('updates')} updates.")
    elif training:
        notes.append("Its weights are averages (EMA).")
    return weights, notes


def _compare(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    missing = [name for name in expected if name not in weights]
    unexpected = [name for name in weights if name not in expected]
    differing = [
        f"{name} {tuple(value.shape)} instead of {tuple(expected[name].shape)}"
        for name, value in weights.items()
        if name in expected and value.shape != expected[name].shape
    ]
    complaints = [
        f"{len(names)} {kind} ({_some(names)})"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", differing))
        if names
    ]
    if complaints:
        raise CheckpointError(
            f"{path} does not fit the config's model: of {len(expected)} tensors {'; '.join(complaints)}: "
            "is it the config that it was trained with?"
        )
    broken = [name for name, value in weights.items() if not torch.isfinite(value).all()]
    if broken:
        raise CheckpointError(f"{path} holds NaN or infinity in {len(broken)} tensors ({_some(broken)}).")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
