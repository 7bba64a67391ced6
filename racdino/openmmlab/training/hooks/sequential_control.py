"""Parts of the training that change at an epoch."""

from __future__ import annotations

from mmcv.runner import HOOKS, Hook

from racdino.openmmlab.training.errors import TrainingError
from racdino.openmmlab.training.runner import TrainingRunner


@HOOKS.register_module()
class SequentialControlHook(Hook):
    """From epoch ``start_epoch``, counted from 0, the depth loss weighs ``loss_depth_weight``, upstream's 1.0."""

    def __init__(self, start_epoch: int, loss_depth_weight: float = 1.0) -> None:
        self.start_epoch = start_epoch
        self.loss_depth_weight = loss_depth_weight

    def before_run(self, runner: TrainingRunner) -> None:
        if not self._parts(runner):
            raise TrainingError("SequentialControlHook: no part of the model has a loss_depth_weight to set.")

    def before_train_epoch(self, runner: TrainingRunner) -> None:
        if runner.epoch >= self.start_epoch:
            for part in self._parts(runner):
                part.loss_depth_weight = self.loss_depth_weight

    @staticmethod
    def _parts(runner: TrainingRunner) -> list:
        return [part for part in runner.model.modules() if hasattr(part, "loss_depth_weight")]
