"""mmcv's epoch runner that can begin and end inside an epoch."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmcv.parallel.scatter_gather import scatter
from mmcv.runner import EpochBasedRunner
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from racdino.openmmlab.training import state
from racdino.openmmlab.training.errors import TrainingError
from racdino.training import processes
from racdino.training.checkpoints import CheckpointStore, Position
from racdino.training.ema import ExponentialAverage
from racdino.training.loss_scaler import LossScaler
from racdino.training.sampler import GlobalBatchSampler
from racdino.training.stop_request import Stopped, StopRequest
from racdino.weights.checkpoint import read_checkpoint


class TrainingRunner(EpochBasedRunner):
    """One process of a run. Hooks are mmcv's; checkpoints, signals and the position are handled here.

    Args:
        loader: its ``batch_sampler`` is a GlobalBatchSampler.
        store: of the checkpoints; only process 0 writes it.
        every: iterations between checkpoints inside an epoch, 0 for none, and epochs between those at their ends.
        average: of the weights, or None.
        precision: of the autocast around the model, or None.
    Attributes:
        stepped: whether the iteration that just ended changed the weights.
        evaluate: called with the runner after each epoch's checkpoint.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loader: DataLoader,
        *,
        max_epochs: int,
        logger: logging.Logger,
        meta: dict[str, Any],
        store: CheckpointStore,
        every: tuple[int, int],
        stop: StopRequest,
        scaler: LossScaler,
        average: ExponentialAverage | None = None,
        precision: torch.dtype | None = None,
        find_unused_parameters: bool = False,
    ) -> None:
        super().__init__(model, None, optimizer, None, logger, meta, max_epochs=max_epochs)
        assert isinstance(loader.batch_sampler, GlobalBatchSampler)
        self.sampler = loader.batch_sampler
        self.data_loader = loader
        self._max_iters = max_epochs * len(loader)
        self.store = store
        self.every = every
        self.stop = stop
        self.scaler = scaler
        self.average = average
        self.precision = precision
        self.position = Position(0, 0)
        self.saved = Position(0, 0)
        self.random_to_restore: list[dict[str, Any]] | None = None
        self.stepped = False
        self.evaluate: Callable[[TrainingRunner], None] = lambda _: None
        self._step = _wrapped(model, find_unused_parameters)

    def go_to(self, position: Position, iteration: int) -> None:
        """Begin at ``position``, ``iteration`` iterations from the start of the run; its checkpoint exists."""
        self.position = self.saved = position
        self._epoch, self._iter = position.epoch, iteration

    def resume(self, checkpoint: str, *_: Any, **__: Any) -> None:
        """mmcv's, for hooks that call it: everything that the rest of the run depends on.

        Raises:
            CheckpointError: the file is damaged or asks for code to be run.
            TrainingError: see `racdino.openmmlab.training.state.restore`.
        """
        content = read_checkpoint(checkpoint)
        state.seed_of(Path(checkpoint), content)
        state.restore(self, Path(checkpoint), content)

    def run(self, *_: Any, **__: Any) -> None:
        """Train from the current position to the last epoch.

        Raises:
            Stopped: a signal asked for it; the state is saved.
            TrainingError: a checkpoint cannot be written, or the gradients are not finite again and again.
        """
        self.call_hook("before_run")
        try:
            self._stop_if_asked()
            if self.position.iteration == 0:
                self.evaluate(self)  # where a killed run did not get to it
            while self._epoch < self._max_epochs:
                self.train()
        finally:
            self.call_hook("after_run")

    def train(self, *_: Any, **__: Any) -> None:
        """The rest of the current epoch."""
        self.model.train()
        self.mode = "train"
        self.sampler.start_at(*self.position)
        self._inner_iter = self.position.iteration
        self.call_hook("before_train_epoch")
        batches = iter(self.data_loader)
        if self.random_to_restore is not None:
            state.restore_random(self.random_to_restore)
            self.random_to_restore = None
        for iteration, batch in enumerate(batches, self.position.iteration):
            self._inner_iter, self.data_batch = iteration, batch
            self.call_hook("before_train_iter")
            self.run_iter(batch, train_mode=True)
            self.call_hook("after_train_iter")
            del self.data_batch
            self._iter += 1
            if self._inner_iter + 1 < len(self.data_loader):
                self._end_iteration()
        self.call_hook("after_train_epoch")
        self._epoch += 1
        self._end_epoch()

    def run_iter(self, data_batch: Any, train_mode: bool, **_: Any) -> None:
        """One training step up to the loss; the optimiser's hook does the rest."""
        on_device = scatter(data_batch, [torch.cuda.current_device() if torch.cuda.is_available() else -1])[0]
        with self._autocast():
            self.outputs = self._step(on_device, self.optimizer)
        self.log_buffer.update(self.outputs["log_vars"], self.outputs["num_samples"])

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.precision is None:
            return contextlib.nullcontext()
        return torch.autocast(processes.device().type, dtype=self.precision)

    def _end_iteration(self) -> None:
        self.position = Position(self._epoch, self._inner_iter + 1)
        iterations, _ = self.every
        if iterations > 0 and self._iter % iterations == 0:
            self.save()
        self._stop_if_asked()

    def _end_epoch(self) -> None:
        self.position = Position(self._epoch, 0)
        _, epochs = self.every
        if self._epoch == self._max_epochs or (epochs > 0 and self._epoch % epochs == 0):
            self.save()
        if self._epoch < self._max_epochs:
            self._stop_if_asked()
        self.evaluate(self)
        if self._epoch < self._max_epochs:
            self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        number = processes.highest(self.stop.number)
        if number:
            if self.position != self.saved:
                self.save()
            raise Stopped(number)

    def save(self) -> None:
        """Write the checkpoint of the current position; every process calls it and returns once it is there."""
        content = state.capture(self)
        failure: OSError | None = None
        if processes.rank() == 0:
            try:
                self.store.save(self.position, content)
            except OSError as error:
                failure = error
        if processes.highest(int(failure is not None)):
            reason = "" if failure is None else f" ({failure.strerror or failure})"
            raise TrainingError(
                f"The checkpoint {self.store.path(self.position)} cannot be written{reason}: mend that, then go on "
                "from the one before it with --resume auto."
            ) from failure
        self.saved = self.position


class _Step(nn.Module):
    """``forward`` is the detector's ``train_step``, since DistributedDataParallel watches ``forward`` only."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, data: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        return self.model.train_step(data, optimizer)  # type: ignore[operator]


def _wrapped(model: nn.Module, find_unused_parameters: bool) -> nn.Module:
    step = _Step(model)
    if processes.count() == 1:
        return step
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else None
    return DistributedDataParallel(
        step, device_ids=devices, broadcast_buffers=False, find_unused_parameters=find_unused_parameters
    )
