"""The log of a run: lines to read, a JSON record per line, TensorBoard. Only process 0 has these hooks."""

from __future__ import annotations

import json
import resource
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from mmcv.runner import HOOKS
from mmcv.runner.hooks import LoggerHook
from mmcv.runner.hooks.logger import TensorboardLoggerHook

from racdino.openmmlab.training.runner import TrainingRunner
from racdino.training import processes
from racdino.training.files import write_text

JSON_LOG = "train.log.json"


@HOOKS.register_module()
class MyTextLoggerHook(LoggerHook):
    """Every ``interval`` iterations the means since the last time, as a line of text and a line of JSON.

    The JSON records have ``mode`` ("train", "val" or "start"), ``epoch`` and ``iter`` in it from 1, ``step``
    (iterations of the whole run), ``lr``, ``time`` and ``data_time`` (seconds per iteration), ``images_per_s`` of all
    processes, ``memory`` (MB: of the GPU, else of the process; the most so far), ``eta`` (seconds) and the losses. What
    a killed run wrote after the checkpoint that it resumes from is removed, so that no step is there twice.
    """

    def __init__(self, interval: int = 10, ignore_last: bool = True, reset_flag: bool = False, by_epoch: bool = True):
        super().__init__(interval, ignore_last, reset_flag, by_epoch)
        self._images = 0
        self._begun = (0, 0.0)

    def before_run(self, runner: TrainingRunner) -> None:
        super().before_run(runner)
        self._images = 0
        self._begun = (runner.iter, time.monotonic())
        path = json_log(runner)
        if path.exists():
            write_text(path, "".join(line for line in path.open() if _step(line) <= runner.iter))
        start = {"mode": "start", "step": runner.iter, "time_of_day": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        append_record(runner, {**start, "processes": processes.count(), "max_epochs": runner.max_epochs})

    def after_train_iter(self, runner: TrainingRunner) -> None:
        self._images += _images(runner)
        super().after_train_iter(runner)

    def log(self, runner: TrainingRunner) -> None:
        means = dict(runner.log_buffer.output)
        iterations = min(self.interval, len(runner.log_buffer.val_history["time"]))
        seconds = float(means["time"])
        record = {
            "mode": "train",
            "epoch": runner.epoch + 1,
            "iter": runner.inner_iter + 1,
            "step": runner.iter + 1,
            "lr": runner.current_lr()[0],
            "memory": _memory(),
            "eta": round(self._seconds_left(runner)),
            "images_per_s": self._images * processes.count() / max(seconds * iterations, 1e-9),
            **{name: float(mean) for name, mean in means.items()},
        }
        self._images = 0
        append_record(runner, record)
        runner.logger.info(_line(record, runner))

    def _seconds_left(self, runner: TrainingRunner) -> float:
        first, begun = self._begun
        per_iteration = (time.monotonic() - begun) / (runner.iter + 1 - first)
        return per_iteration * (runner.max_iters - runner.iter - 1)


@HOOKS.register_module()
class MyTensorboardLoggerHook(TensorboardLoggerHook):
    """mmcv's, with the folder ``tf_logs`` in the work dir; a resumed run hides what it repeats."""

    def before_run(self, runner: TrainingRunner) -> None:
        from torch.utils.tensorboard import SummaryWriter

        LoggerHook.before_run(self, runner)
        self.writer = SummaryWriter(self.log_dir or str(Path(runner.work_dir) / "tf_logs"), purge_step=runner.iter + 1)


def json_log(runner: TrainingRunner) -> Path:
    """Where the JSON log of a run is."""
    return Path(runner.work_dir) / JSON_LOG


def append_record(runner: TrainingRunner, record: dict[str, Any]) -> None:
    """Add one line to the JSON log."""
    with json_log(runner).open("a") as file:
        file.write(json.dumps(record) + "\n")


def _step(line: str) -> float:
    """The step of a record; beyond any for a line that was cut off."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _images(runner: TrainingRunner) -> int:
    images = runner.data_batch.get("img") if isinstance(runner.data_batch, dict) else None
    data = getattr(images, "data", None)
    if isinstance(data, list) and data and isinstance(data[0], torch.Tensor) and data[0].dim() == 5:
        return data[0].shape[0] * data[0].shape[1]
    return int(runner.outputs["num_samples"])


def _memory() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() >> 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def _line(record: dict[str, Any], runner: TrainingRunner) -> str:
    named = {"mode", "epoch", "iter", "step", "lr", "memory", "eta", "images_per_s", "time", "data_time", "loss"}
    # The losses of inner decoder layers and of denoising are in the JSON log.
    others = [name for name in record if name not in named and "." not in name and not name.endswith("_dn")]
    losses = "".join(f"  {name} {record[name]:.4g}" for name in ["loss", *others] if name in record)
    return (
        f"epoch {record['epoch']}/{runner.max_epochs} [{record['iter']}/{len(runner.data_loader)}]{losses}"
        f"  lr {record['lr']:.3g}  {record['time']:.3f} s/it (data {record['data_time']:.3f})"
        f"  {record['images_per_s']:.1f} images/s  {record['memory']} MB  eta {timedelta(seconds=record['eta'])}"
    )
