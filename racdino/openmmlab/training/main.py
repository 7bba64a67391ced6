"""``racdino train CONFIG``: from the command line to a runner, and from what ended it to a status."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmcv import Config

from racdino.data.errors import SampleError
from racdino.environment import info
from racdino.evaluation.errors import EvaluationError
from racdino.openmmlab.training import options, parts, run_folder, state
from racdino.openmmlab.training.errors import TrainingError
from racdino.openmmlab.training.hooks.optimiser import read_optimizer_config
from racdino.openmmlab.training.runner import TrainingRunner
from racdino.openmmlab.training.safe_loading import read_safely
from racdino.openmmlab.training.set_up import add_hooks, average_of, checkpointing, precision_of
from racdino.training import processes
from racdino.training.batch_norm import reduce_batch_norm
from racdino.training.checkpoints import CheckpointStore
from racdino.training.files import write_text
from racdino.training.random_state import seed_all
from racdino.training.stop_request import Stopped, StopRequest
from racdino.weights.checkpoint import read_checkpoint


class Start(NamedTuple):
    """Where a run writes, and the checkpoint it begins with, path and content, or None."""

    folder: Path
    checkpoint: tuple[Path, dict[str, Any]] | None


def main(arguments: Sequence[str]) -> int:
    """Train; every process of a run calls this with the same arguments.

    Returns:
        0 all epochs are done; 2 arguments, config or files do not allow a start; 1 the run broke off; 143 after
        SIGTERM, 75 after SIGUSR1, 130 after Ctrl-C, each with a checkpoint of the last whole iteration.
    """
    given = options.parser().parse_args(arguments)
    read_safely()
    with StopRequest() as stop:
        processes.start()
        return _run(given, stop)


def _run(given: argparse.Namespace, stop: StopRequest) -> int:
    runner = None
    try:
        runner = prepare(given, stop)
        runner.run()
    except Stopped as stopped:
        _say(f"{stopped}: stopped at {_place(runner)}; --resume auto goes on.")
        return stopped.status
    except (TrainingError, SampleError, EvaluationError, OSError) as error:
        _say(_sentence(error))
        return 1 if runner else 2
    return 0


def prepare(given: argparse.Namespace, stop: StopRequest) -> TrainingRunner:
    """Everything up to the first iteration; the work dir is made once config and checkpoint are known to be good."""
    path = given.config or given.config_option
    if path is None:
        raise TrainingError("Which config? racdino train CONFIG; `racdino train` without one runs the demo.")
    config = options.read_config(path, given.cfg_options)
    if missing := [key for key in ("model", "data", "optimizer", "total_epochs") if key not in config]:
        raise TrainingError(f"{path} has no {' and no '.join(missing)}, so there is nothing to train by.")
    start = _start(given, config)
    seed = _seed(given.seed, config, start)
    seed_all(seed)
    torch.backends.cudnn.benchmark = bool(config.get("cudnn_benchmark", False))
    torch.backends.cudnn.deterministic = not torch.backends.cudnn.benchmark
    loader = parts.build_loader(config, seed)
    model = parts.build_model(config)
    loaded = parts.load_initial(config, model) if config.get("load_from") and not start.checkpoint else None
    if processes.count() > 1:
        model = reduce_batch_norm(model)
    model.to(processes.device())
    step, scaler, half = read_optimizer_config(config.get("optimizer_config"))
    precision, said = precision_of(given.amp or ("fp16" if half else None), model)
    keep, every = checkpointing(config)
    logger = _logger()
    runner = TrainingRunner(
        model,
        parts.build_optimiser(config, model),
        loader,
        max_epochs=config.total_epochs,
        logger=logger,
        meta={"config": config.pretty_text, "seed": seed, "CLASSES": parts.classes_of(loader)},
        store=CheckpointStore(start.folder, keep),
        every=every,
        stop=stop,
        scaler=scaler,
        average=average_of(config, model),
        precision=precision,
        find_unused_parameters=bool(config.get("find_unused_parameters", False)),
    )
    if start.checkpoint:
        state.restore(runner, *start.checkpoint)
    add_hooks(runner, config, step)
    processes.by_process_0(lambda: _make_folder(start.folder, config))
    if processes.rank() == 0:
        runner.work_dir = str(start.folder)
        _add_handler(logger, logging.FileHandler(start.folder / "train.log"))
    for sentence in filter(None, (said, loaded)):
        logger.info(sentence)
    logger.info(
        "%s from %s: %d samples, %d per iteration on %s, in %s",
        "Goes on" if start.checkpoint else "Begins",
        _place(runner),
        runner.sampler.samples,
        runner.sampler.global_batch,
        _processes(),
        start.folder,
    )
    seed_all(seed, processes.rank())
    return runner


def _start(given: argparse.Namespace, config: Config) -> Start:
    """Process 0 chooses, all read the checkpoint."""
    resume = given.resume or config.get("resume_from")
    path = Path(config.filename)
    folder, checkpoint = processes.by_process_0(lambda: run_folder.choose(path, given.work_dir, resume, _say))
    return Start(folder, None if checkpoint is None else (checkpoint, read_checkpoint(checkpoint)))


def _seed(asked: int | None, config: Config, start: Start) -> int:
    if start.checkpoint is None:
        return int(config.get("seed") or 0) if asked is None else asked
    seed = state.seed_of(*start.checkpoint)
    if asked not in (None, seed):
        raise TrainingError(f"{start.checkpoint[0]} was trained with --seed {seed}: it cannot go on with {asked}.")
    return seed


def _make_folder(folder: Path, config: Config) -> None:
    run_folder.make(folder)
    CheckpointStore(folder).remove_partial()
    write_text(folder / "config.py", config.pretty_text)
    write_text(folder / "environment.json", info.as_json())


def _logger() -> logging.Logger:
    """To stderr; of other processes than the first, warnings alone."""
    logger = logging.getLogger("racdino.training")
    logger.setLevel(logging.INFO if processes.rank() == 0 else logging.WARNING)
    logger.propagate = False
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    _add_handler(logger, logging.StreamHandler())
    return logger


def _add_handler(logger: logging.Logger, handler: logging.Handler) -> None:
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)


def _processes() -> str:
    count, kind = processes.count(), processes.device().type
    return f"{count} {'GPU' if kind == 'cuda' else 'process'}{'' if count == 1 else 's' if kind == 'cuda' else 'es'}"


def _place(runner: TrainingRunner | None) -> str:
    if runner is None:
        return "the beginning"
    epoch, iteration = runner.position
    if iteration:
        return f"epoch {epoch + 1}, iteration {iteration}"
    return f"the end of epoch {epoch}" if epoch else "the beginning"


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'A file of the run'}: {error.strerror}; --resume auto goes on once that is mended."
    return str(error).strip().splitlines()[-1].removeprefix(f"{type(error).__module__}.{type(error).__qualname__}: ")


def _say(sentence: str) -> None:
    if processes.rank() == 0:
        print(f"racdino: {sentence}", file=sys.stderr, flush=True)
