"""Backward, accumulation, clipping, step, average: one hook for every precision."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmcv.runner import Hook

from racdino.openmmlab.training.errors import TrainingError
from racdino.training.loss_scaler import LossScaler

if TYPE_CHECKING:
    from racdino.openmmlab.training.runner import TrainingRunner

_HALF = ("Fp16OptimizerHook", "GradientCumulativeFp16OptimizerHook")
_FULL = (None, "OptimizerHook", "GradientCumulativeOptimizerHook")
_WITHOUT_MEANING = {"type", "coalesce", "bucket_size_mb", "distributed"}  # mmcv does not read them since torch 1.6
_MOST_SKIPPED = 10


class OptimiserStep(Hook):
    """What mmcv's four optimizer hooks do together, able to go on inside an accumulation.

    Args:
        grad_clip: of ``clip_grad_norm_``: max_norm, norm_type; or None.
        cumulative_iters: iterations whose mean gradient makes one step. The run's last step takes what is left.
    """

    def __init__(self, grad_clip: Mapping[str, float] | None = None, cumulative_iters: int = 1) -> None:
        self.grad_clip = dict(grad_clip or {"max_norm": math.inf})
        self.cumulative_iters = cumulative_iters

    def after_train_iter(self, runner: TrainingRunner) -> None:
        k, last = self.cumulative_iters, runner.iter + 1 == runner.max_iters
        whole = runner.max_iters // k * k
        share = k if runner.iter < whole else runner.max_iters - whole
        runner.scaler.backward(runner.outputs["loss"] / share)
        runner.stepped = False
        if (runner.iter + 1) % k and not last:
            return
        norm = runner.scaler.unscale(runner.model.parameters(), **self.grad_clip)
        runner.stepped = math.isfinite(norm)
        runner.scaler.update(runner.stepped)
        if runner.stepped:
            runner.optimizer.step()
            runner.log_buffer.update({"grad_norm": norm}, runner.outputs["num_samples"])
            if runner.average is not None:
                runner.average.update_parameters(runner.model)
        else:
            self._skipped(runner)
        runner.optimizer.zero_grad(set_to_none=True)

    @staticmethod
    def _skipped(runner: TrainingRunner) -> None:
        loss, row = runner.outputs["log_vars"].get("loss"), runner.scaler.skipped_in_a_row
        where = f"epoch {runner.epoch + 1}, iteration {runner.inner_iter + 1}"
        runner.logger.warning(
            "%s: the gradients are not finite (loss %s), so this step is left out, %d in a row.", where, loss, row
        )
        if row >= _MOST_SKIPPED:
            raise TrainingError(
                f"{row} steps in a row had gradients that are not finite, the last at {where} with loss {loss}: lower "
                "optimizer.lr or the precision's loss_scale and go on from an earlier checkpoint."
            )


def read_optimizer_config(config: Mapping[str, Any] | None) -> tuple[OptimiserStep, LossScaler, bool]:
    """The hook, the loss scaler and whether half precision is asked for, from a config's ``optimizer_config``.

    Raises:
        TrainingError: it names another hook, or keys that none of mmcv's four has.
    """
    options = dict(config or {})
    kind = options.get("type")
    if kind not in (*_HALF, *_FULL):
        raise TrainingError(
            f"optimizer_config type={kind!r} is not known; known are {', '.join(filter(None, (*_FULL, *_HALF)))}."
        )
    half = kind in _HALF
    scale = options.pop("loss_scale", 512.0) if half else 1.0
    options = {key: value for key, value in options.items() if key not in _WITHOUT_MEANING}
    if unknown := set(options) - {"grad_clip", "cumulative_iters"}:
        raise TrainingError(
            f"optimizer_config has {', '.join(sorted(unknown))}, which {kind or 'OptimizerHook'} does not take."
        )
    if scale == "dynamic":
        scaler = LossScaler(2.0**16, dynamic=True)
    elif isinstance(scale, Mapping):
        scaler = LossScaler(scale.get("init_scale", 2.0**16), dynamic=True)
    else:
        scaler = LossScaler(scale)
    return OptimiserStep(**options), scaler, half
