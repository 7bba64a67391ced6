"""What the training keys of a config mean: precision, average, checkpoints, hooks."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from mmcv import Config, build_from_cfg
from mmcv.runner import HOOKS, IterTimerHook
from torch import nn

from racdino.openmmlab.training.errors import TrainingError
from racdino.openmmlab.training.hooks import OptimiserStep
from racdino.openmmlab.training.hooks.evaluation import Evaluation
from racdino.openmmlab.training.runner import TrainingRunner
from racdino.training import processes
from racdino.training.ema import ExponentialAverage

_AVERAGES = ("EMAHook", "MEGVIIEMAHook")  # mmcv's and BEVDet's; both become `ema_config`
_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
_CHECKPOINT_KEYS = {"type", "interval", "by_epoch", "iter_interval", "max_keep_ckpts"}


def precision_of(name: str | None, model: nn.Module) -> tuple[torch.dtype | None, str | None]:
    """The dtype of the autocast around the whole model, or None, and a sentence where the device cannot do ``name``.

    A model with ``image_precision`` is given it instead: it knows which of its parts bear it.
    """
    if name is None:
        return None, None
    dtype = _DTYPES[name]
    if dtype == torch.float16 and processes.device().type == "cpu":
        return None, "There is no GPU, so the half precision (fp16) of the config or of --amp becomes float32 here."
    if hasattr(model, "image_precision"):
        model.image_precision = dtype  # type: ignore[assignment]
        return None, None
    return dtype, None


def average_of(config: Config, model: nn.Module) -> ExponentialAverage | None:
    """``ema_config`` with decay and ramp, or mmcv's (1 - momentum) or BEVDet's (decay) hook among custom_hooks."""
    options = config.get("ema_config")
    for hook in config.get("custom_hooks") or []:
        if hook["type"] in _AVERAGES:
            options = {"decay": hook.get("decay", 1 - hook.get("momentum", 0.0002))}
    if options is None:
        return None
    if unknown := set(options) - {"decay", "ramp"}:
        raise TrainingError(f"ema_config has {', '.join(sorted(unknown))}; it takes decay and ramp.")
    return ExponentialAverage(model, **options)


def checkpointing(config: Config) -> tuple[int, tuple[int, int]]:
    """``max_keep_ckpts``, and the intervals of ``checkpoint_config``: iterations inside an epoch, epochs."""
    options = config.get("checkpoint_config") or {}
    if unknown := set(options) - _CHECKPOINT_KEYS:
        raise TrainingError(
            f"checkpoint_config has {', '.join(sorted(unknown))}; it takes {', '.join(sorted(_CHECKPOINT_KEYS))}."
        )
    interval, by_epoch = options.get("interval", 1), options.get("by_epoch", True)
    iterations = options.get("iter_interval", 0 if by_epoch else interval)
    return options.get("max_keep_ckpts", 0), (iterations, interval if by_epoch else 1)


def add_hooks(runner: TrainingRunner, config: Config, step: OptimiserStep) -> None:
    """The hooks of the config, in mmcv's order; process 0 alone logs."""
    try:
        runner.register_lr_hook(_copy(config.get("lr_config")))
        runner.register_hook(step, "ABOVE_NORMAL")
        runner.register_timer_hook(IterTimerHook())
        for hook in config.get("custom_hooks") or []:
            if hook["type"] not in _AVERAGES:
                runner.register_hook_from_cfg(_copy(hook))
        if processes.rank() == 0:
            _add_loggers(runner, config.get("log_config") or {})
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        reason = " ".join(str(error.args[0] if error.args else type(error).__name__).split()).rstrip(".")
        raise TrainingError(f"The config's hooks cannot be built: {reason}.") from error
    if options := config.get("eval_config"):
        runner.evaluate = Evaluation(config, options.get("interval", 1))


def _add_loggers(runner: TrainingRunner, config: Mapping[str, Any]) -> None:
    names = {"TextLoggerHook": "MyTextLoggerHook", "TensorboardLoggerHook": "MyTensorboardLoggerHook"}
    hooks = [_copy(hook) for hook in config.get("hooks") or []]
    for hook in hooks:
        hook["type"] = names.get(hook["type"], hook["type"])
    if not any(hook["type"] == "MyTextLoggerHook" for hook in hooks):
        hooks.insert(0, {"type": "MyTextLoggerHook"})
    for hook in hooks:
        cls = HOOKS.get(hook["type"])
        takes_interval = cls is not None and "interval" in inspect.signature(cls).parameters
        default = {"interval": config.get("interval", 10)} if takes_interval else {}
        runner.register_hook(build_from_cfg(hook, HOOKS, default), "VERY_LOW")


def _copy(config: Any) -> Any:
    """mmcv takes keys out of what it builds from."""
    return dict(config) if isinstance(config, Mapping) else config
