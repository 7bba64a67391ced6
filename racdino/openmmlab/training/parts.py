"""Model, data loader, optimiser and initial weights, from a config."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import cv2
import torch
from mmcv import Config, build_from_cfg
from mmcv.parallel import collate
from mmcv.runner import OPTIMIZERS, build_optimizer
from mmcv.runner.optimizer import DefaultOptimizerConstructor
from torch import nn
from torch.utils.data import DataLoader

from racdino.openmmlab import dataset, detector, pipelines  # noqa: F401  (register what configs name)
from racdino.openmmlab.training.errors import TrainingError
from racdino.training import processes
from racdino.training.keyed_samples import KeyedSamples
from racdino.training.sampler import GlobalBatchSampler
from racdino.training.stop_request import ignore_in_worker
from racdino.weights import WeightsNotFoundError, existing_file
from racdino.weights.checkpoint import CheckpointError, read_checkpoint
from racdino.weights.loading import check_hash


def build_model(config: Config) -> nn.Module:
    """The detector with its initial weights, on the CPU."""
    from mmdet3d.models import build_model as build

    try:
        model = build(config.model, train_cfg=config.get("train_cfg"), test_cfg=config.get("test_cfg"))
    except (KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"The config's model cannot be built: {_said(error)}") from error
    model.init_weights()
    return model


def build_loader(config: Config, seed: int) -> DataLoader:
    """Batches of the training set for this process; its ``batch_sampler`` is a GlobalBatchSampler."""
    from mmdet3d.datasets import build_dataset

    try:
        dataset = build_dataset(config.data.train)
    except (KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"The config's data.train cannot be built: {_said(error)}") from error
    batch_size = config.get("batch_size") or config.data.get("samples_per_gpu")
    if not isinstance(batch_size, int) or batch_size < 1:
        raise TrainingError(
            f"The config's batch_size, samples per process, is {batch_size}: it must be a number from 1."
        )
    workers = config.data.get("workers_per_gpu", 0)
    try:
        sampler = GlobalBatchSampler(len(dataset), batch_size, seed, processes.rank(), processes.count())
    except ValueError as error:
        raise TrainingError(f"{error} Check data.train.ann_file.") from error
    return DataLoader(
        KeyedSamples(dataset, seed),
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=functools.partial(collate, samples_per_gpu=batch_size),
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # its own, so that starting an epoch draws nothing from the global one
    )


def classes_of(loader: DataLoader) -> Any:
    """The class names of the training set, where it has some."""
    assert isinstance(loader.dataset, KeyedSamples)
    return getattr(loader.dataset.dataset, "CLASSES", None)


def _start_worker(worker: int) -> None:
    ignore_in_worker(worker)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def build_optimiser(config: Config, model: nn.Module) -> torch.optim.Optimizer:
    """mmcv's, with ``paramwise_cfg``; parameters of the same options share a group, so that they step together."""
    options = config.optimizer.to_dict() if hasattr(config.optimizer, "to_dict") else dict(config.optimizer)
    try:
        if "constructor" in options:
            return build_optimizer(model, options)
        paramwise = options.pop("paramwise_cfg", None)
        groups: list[dict[str, Any]] = []
        DefaultOptimizerConstructor(options, paramwise).add_params(groups, model)
        return build_from_cfg({**options, "params": _merged(groups, options)}, OPTIMIZERS)
    except (KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"The config's optimizer cannot be built: {_said(error)}") from error


def _merged(groups: list[dict[str, Any]], options: dict[str, Any]) -> list[dict[str, Any]]:
    common: dict[str, Any] = {key: options[key] for key in ("lr", "weight_decay") if key in options}
    merged: dict[tuple[Any, ...], dict[str, Any]] = {}
    for group in groups:
        own: dict[str, Any] = {**common, **group}
        del own["params"]
        trained = [parameter for parameter in group["params"] if parameter.requires_grad]
        if trained:
            merged.setdefault(tuple(sorted(own.items())), {**own, "params": []})["params"].extend(trained)
    if not merged:
        raise ValueError("no parameter of the model is trained")
    return list(merged.values())


def load_initial(config: Config, model: nn.Module) -> str:
    """Load ``load_from`` with ``revise_keys``: (pattern, replacement) pairs applied to its names in turn.

    Returns:
        A sentence that says how much was loaded.
    Raises:
        TrainingError: the file is missing or damaged, or nothing in it has a name and shape of the model's.
    """
    try:
        path = existing_file(config.load_from)
        check_hash(path)
        content = read_checkpoint(path)
    except (WeightsNotFoundError, CheckpointError) as error:
        raise TrainingError(f"load_from: {error}.") from error
    weights = content.get("state_dict", content) if isinstance(content, dict) else {}
    weights = {name: value for name, value in weights.items() if isinstance(value, torch.Tensor)}
    for pattern, replacement in [(r"^module\.", ""), *config.get("revise_keys", [])]:
        weights = {re.sub(pattern, replacement, name): value for name, value in weights.items()}
    return _load_matching(model, weights, path)


def _load_matching(model: nn.Module, weights: dict[str, torch.Tensor], path: Path) -> str:
    own = model.state_dict()
    matched = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    differing = [name for name in weights if name in own and name not in matched]
    if not matched:
        ours, theirs = next(iter(own)), next(iter(weights), "no tensor at all")
        raise TrainingError(
            f"Nothing in {path} fits the model: it has {theirs}, the model {ours}, ...; check revise_keys, or set "
            "load_from=None to begin without."
        )
    model.load_state_dict(matched, strict=False)
    parts = sorted({name.split(".")[0] for name in matched})
    shapes = f", {len(differing)} differ in shape ({differing[0]}, ...)" if differing else ""
    unused = len(weights) - len(matched) - len(differing)
    return (
        f"{path}: {len(matched)} tensors loaded into {', '.join(parts)} ({len(own)} in the model){shapes}, "
        f"{unused} have no place in the model."
    )


def _said(error: Exception) -> str:
    text = error.args[0] if error.args else type(error).__name__
    lines = str(text).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".") + "."
