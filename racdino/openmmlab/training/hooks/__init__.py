"""Hooks of the runner, registered under the names that configs give them."""

from __future__ import annotations

from racdino.openmmlab.training.hooks.loggers import MyTensorboardLoggerHook, MyTextLoggerHook
from racdino.openmmlab.training.hooks.optimiser import OptimiserStep
from racdino.openmmlab.training.hooks.sequential_control import SequentialControlHook

__all__ = ["MyTensorboardLoggerHook", "MyTextLoggerHook", "OptimiserStep", "SequentialControlHook"]
