"""Everything that the rest of a run depends on, as the content of a checkpoint and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import mmcv
import torch

import racdino
from racdino.openmmlab.training.errors import TrainingError
from racdino.training import processes
from racdino.training.checkpoints import Position
from racdino.training.random_state import random_state, restore_random_state

if TYPE_CHECKING:
    from racdino.openmmlab.training.runner import TrainingRunner

FORMAT = "racdino training 1"


def capture(runner: TrainingRunner) -> dict[str, Any]:
    """The state after a whole iteration; every process calls it, process 0 writes it.

    ``state_dict`` holds the weights to use: the averaged ones where there is an average, and then
    ``training_state_dict`` those that training goes on with. ``meta`` has mmcv's keys.
    """
    content: dict[str, Any] = {
        "format": FORMAT,
        "meta": {**(runner.meta or {}), "epoch": runner.epoch, "iter": runner.iter, "mmcv_version": mmcv.__version__},
        "position": {"iteration": runner.position.iteration, "global_batch": runner.sampler.global_batch},
        "data": {"samples": runner.sampler.samples, "seed": runner.sampler.seed},
        "racdino_version": racdino.__version__,
        "state_dict": runner.model.state_dict(),
        "optimizer": runner.optimizer.state_dict(),
        "gradients": {  # of an accumulation that the next iteration goes on with
            name: parameter.grad for name, parameter in runner.model.named_parameters() if parameter.grad is not None
        },
        "loss_scaler": runner.scaler.state_dict(),
        "random": processes.of_all(random_state()),
    }
    if runner.average is not None:
        content["training_state_dict"] = content["state_dict"]
        content["state_dict"] = runner.average.module.state_dict()
        content["average"] = {"updates": int(runner.average.n_averaged)}
    return content


def seed_of(path: Path, content: Any) -> int:
    """The seed of the run that wrote a checkpoint; TrainingError where it is none of a run."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise TrainingError(
            f"{path} holds no state of a run to resume, only weights at most: begin with them by "
            f"--cfg-options load_from={path}, without --resume."
        )
    return int(content["data"]["seed"])


def restore(runner: TrainingRunner, path: Path, content: dict[str, Any]) -> None:
    """Bring a runner to the state in ``content``; its random state waits for the first batch (`restore_random`).

    Raises:
        TrainingError: the checkpoint is of another model, data set, batch or optimiser.
    """
    _require(
        path,
        content["data"]["samples"] == runner.sampler.samples,
        "samples of the training set",
        content["data"]["samples"],
        runner.sampler.samples,
    )
    _require(
        path,
        content["position"]["global_batch"] == runner.sampler.global_batch,
        "samples per iteration (batch_size times processes)",
        content["position"]["global_batch"],
        runner.sampler.global_batch,
    )
    _require(
        path,
        ("average" in content) == (runner.average is not None),
        "average of the weights",
        *("one" if there else "none" for there in ("average" in content, runner.average is not None)),
    )
    weights = content.get("training_state_dict", content["state_dict"])
    try:
        runner.model.load_state_dict(weights, strict=True)
        runner.optimizer.load_state_dict(_copied(content["optimizer"]))
    except (RuntimeError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise TrainingError(f"{path} does not fit this config's model and optimiser: {reason}") from error
    for name, parameter in runner.model.named_parameters():
        gradient = content["gradients"].get(name)
        parameter.grad = None if gradient is None else gradient.to(parameter.device, copy=True)
    if runner.average is not None:
        runner.average.module.load_state_dict(content["state_dict"], strict=True)
        runner.average.n_averaged.fill_(content["average"]["updates"])
    runner.scaler.load_state_dict(content["loss_scaler"])
    runner.go_to(Position(content["meta"]["epoch"], content["position"]["iteration"]), content["meta"]["iter"])
    runner.random_to_restore = content["random"]


def restore_random(states: list[dict[str, Any]]) -> None:
    """This process's share; where there are more processes than before, the new ones keep their own."""
    if processes.rank() < len(states):
        restore_random_state(states[processes.rank()])


def _require(path: Path, same: bool, what: str, then: Any, now: Any) -> None:
    if not same:
        raise TrainingError(f"{path} cannot be resumed with this config: {what}: {then} in the checkpoint, {now} here.")


def _copied(value: Any) -> Any:
    """Tensors of a checkpoint are views of its file."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value
