"""The evaluation after every so many epochs."""

from __future__ import annotations

import json
import time
from pathlib import Path

from mmcv import Config
from torch import nn

from racdino.openmmlab.training.hooks.loggers import append_record, json_log
from racdino.openmmlab.training.runner import TrainingRunner
from racdino.show.curves import draw_curves
from racdino.training import processes
from racdino.training.files import write_text
from racdino.training.random_state import kept_random_state


class Evaluation:
    """Evaluates data.val with the averaged weights where there are some, every ``interval`` epochs and after the last.

    The metrics go into the log and into ``eval/epoch_<n>/metrics.json``, by which a resumed run sees what it has; the
    curves of the run so far into ``curves.png``.
    """

    def __init__(self, config: Config, interval: int) -> None:
        self.config = config
        self.interval = interval

    def __call__(self, runner: TrainingRunner) -> None:
        if runner.epoch == 0 or (runner.epoch % self.interval and runner.epoch != runner.max_epochs):
            return
        folder = runner.store.folder / "eval" / f"epoch_{runner.epoch}"
        done = processes.of_process_0((folder / "metrics.json").is_file())
        if done:
            return
        model = runner.model if runner.average is None else runner.average.module
        with kept_random_state():
            self._evaluate(runner, model, folder)
        runner.model.train()

    def _evaluate(self, runner: TrainingRunner, model: nn.Module, folder: Path) -> None:
        from racdino.openmmlab.evaluate import evaluate_model

        begin = time.monotonic()
        metrics = evaluate_model(model, self.config, folder)
        if processes.rank() != 0:
            return
        record = {"mode": "val", "epoch": runner.epoch, "iter": len(runner.data_loader), "step": runner.iter}
        folder.mkdir(parents=True, exist_ok=True)
        append_record(runner, {**record, "seconds": time.monotonic() - begin, **metrics})
        write_text(folder / "metrics.json", json.dumps(metrics, indent=1))
        try:
            draw_curves(json_log(runner), runner.store.folder / "curves.png")
        except ValueError as error:  # a config without MyTextLoggerHook logs no iteration
            runner.logger.info("No curves: %s", error)
