"""A config's detector over a config's data set: what it finds in each sample, and how fast."""

from __future__ import annotations

import functools
import platform
import resource
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmcv import Config
from mmcv.parallel import collate
from mmcv.parallel.scatter_gather import scatter
from mmdet3d.datasets import build_dataset
from mmdet3d.models import build_model
from torch import nn
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

# These three register what configs name.
import racdino.openmmlab.dataset
import racdino.openmmlab.detector
import racdino.openmmlab.pipelines  # noqa: F401
from racdino.evaluation.detections import Found
from racdino.evaluation.errors import EvaluationError
from racdino.evaluation.speed import Speed, Stopwatch
from racdino.evaluation.weights import load_detector

SPLITS = ("val", "train", "test")


def dataset_of(config: Config, split: str) -> Any:
    """The samples of ``data.<split>`` as a test sees them; of train with the pipeline of val, without augmentation.

    Raises:
        EvaluationError: the config has no such data set, or it cannot be built.
    """
    data = config.get("data") or {}
    needed = {"val", split} if split == "train" else {split}
    missing = [name for name in sorted(needed) if not data.get(name)]
    if missing:
        raise EvaluationError(f"{config.filename} has no data.{missing[0]}, which --split {split} needs.")
    options = data[split]
    if split == "train":
        while "dataset" in options:  # inside a wrapper that repeats or balances
            options = options["dataset"]
        options = {**data["val"], "ann_file": options["ann_file"], "data_root": options.get("data_root")}
    try:
        return build_dataset(Config({**options, "test_mode": True})._cfg_dict)
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise EvaluationError(f"data.{split} of {config.filename} cannot be built: {said(error)}.") from error


def load_model(config: Config, checkpoint: Path, class_names: Sequence[str]) -> tuple[nn.Module, list[str]]:
    """The config's detector with the checkpoint's weights, on the GPU where there is one, and sentences about them.

    Weights that a backbone would begin with are not looked for: the checkpoint has all of them.

    Raises:
        EvaluationError: the model cannot be built. CheckpointError: see `load_detector`.
    """
    try:
        options = Config({"model": without_pretraining(config.model.to_dict())})
        model = build_model(options.model, train_cfg=config.get("train_cfg"), test_cfg=config.get("test_cfg"))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise EvaluationError(f"The model of {config.filename} cannot be built: {said(error)}.") from error
    notes = load_detector(model, checkpoint, class_names)
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), notes


def without_pretraining(options: Any) -> Any:
    """``options`` with no DinoAdapter in it that asks for DINOv2's weights."""
    if isinstance(options, (list, tuple)):
        return type(options)(map(without_pretraining, options))
    if not isinstance(options, Mapping):
        return options
    changed = {key: without_pretraining(value) for key, value in options.items()}
    if changed.get("type") == "DinoAdapter":
        changed = {**changed, "pretrained_vit": False, "pretrained": None}
    return changed


@torch.no_grad()
def detect(
    model: nn.Module, dataset: Any, indices: Sequence[int], batch_size: int, workers: int, show_progress: bool = True
) -> tuple[list[Found], Speed | None]:
    """What the model finds in the samples ``indices``, in their order; the speed is None without a sample."""
    device = next(model.parameters()).device
    on_gpu = device.type == "cuda"
    model.eval()
    loader = DataLoader(
        Subset(dataset, list(indices)),
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=functools.partial(collate, samples_per_gpu=batch_size),
        pin_memory=on_gpu,
        worker_init_fn=_one_thread,
    )
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    watch = Stopwatch(functools.partial(torch.cuda.synchronize, device) if on_gpu else lambda: None)
    found: list[Found] = []
    for batch in tqdm(loader, desc="samples", disable=None if show_progress else True, unit="batch"):
        inputs = scatter(batch, [device.index or 0] if on_gpu else [-1])[0]
        with watch.running_model():
            results = model(return_loss=False, **inputs)
        found += map(as_found, results)
        watch.end_batch(len(results))
    peak = (
        torch.cuda.max_memory_allocated(device) if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    )
    return found, watch.speed(_name(device), peak)


def as_found(result: Mapping[str, Any]) -> Found:
    """Of mmdet3d's result of one sample, with or without ``pts_bbox`` around it."""
    result = result.get("pts_bbox", result)
    boxes, scores, labels = result["boxes_3d"].tensor, result["scores_3d"], result["labels_3d"]
    return Found(boxes.cpu().double().numpy(), scores.cpu().double().numpy(), labels.cpu().numpy())


def said(error: Exception) -> str:
    """The last line of an error's text, which is its sentence also where a worker process raised it."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    lines = text.strip().splitlines() or [type(error).__name__]
    prefix = f"{type(error).__module__}.{type(error).__qualname__}: "
    return lines[-1].strip().removeprefix(prefix).rstrip(".")


def _one_thread(_: int) -> None:
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _peak_memory(device: torch.device) -> int:
    """Bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"
