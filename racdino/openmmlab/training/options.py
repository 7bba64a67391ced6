"""The command line of ``racdino train``, and changes to a config by ``--cfg-options``."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmcv import Config, DictAction

from racdino.openmmlab import configs
from racdino.openmmlab.training.errors import TrainingError

# Keys that training reads where a config has them, by section ("": the top): they may be set anew.
_TOP = ("seed", "batch_size", "load_from", "revise_keys", "resume_from", "find_unused_parameters", "cudnn_benchmark")
_OPTIONAL = {
    "": (
        *_TOP,
        *(f"{name}_config" for name in ("lr", "optimizer", "ema", "checkpoint", "log", "eval")),
        "custom_hooks",
    ),
    "data": ("workers_per_gpu", "samples_per_gpu"),
    "optimizer_config": ("type", "grad_clip", "cumulative_iters", "loss_scale"),
    "checkpoint_config": ("interval", "by_epoch", "iter_interval", "max_keep_ckpts"),
    "ema_config": ("decay", "ramp"),
    "eval_config": ("interval",),
    "log_config": ("interval", "hooks"),
}


def parser() -> argparse.ArgumentParser:
    """The options of ``racdino train``."""
    result = argparse.ArgumentParser(
        prog="racdino train",
        description="Train the detector that CONFIG describes. It ends with 0 when all epochs are done, 143 after "
        "SIGTERM and 75 after SIGUSR1, with a checkpoint of that iteration: --resume auto goes on from it.",
    )
    result.add_argument("config", nargs="?", type=Path, metavar="CONFIG", help="an mmcv config, upstream's or ours")
    result.add_argument(
        "--config", dest="config_option", type=Path, metavar="CONFIG", help="the same, as upstream has it"
    )
    result.add_argument("--work-dir", type=Path, help="folder of the run (default: outputs/<config name>/<date-time>)")
    result.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="PATH",
        help="go on from a checkpoint or the newest whole one of a folder; auto, the default: of --work-dir, or of "
        "this config's newest run, or begin where there is none",
    )
    result.add_argument(
        "--cfg-options",
        "--override",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="change the config: optimizer.lr=1e-4 data.train.pipeline.0.type=Mine lists=[1,2]",
    )
    result.add_argument("--amp", choices=("fp16", "bf16"), help="precision of the image branch (default: the config's)")
    result.add_argument("--seed", type=int, help="of everything that is drawn (default: the config's, else 0)")
    return result


def read_config(path: Path, options: Sequence[str]) -> Config:
    """The config with ``options`` (KEY=VALUE) applied. Its custom_imports may name modules of the working directory.

    Raises:
        TrainingError: it cannot be read, an option is malformed, or names a key that is not there; near ones are named.
    """
    if (here := str(Path.cwd())) not in sys.path:  # last: an isolated Python's own modules win
        sys.path.append(here)
    try:
        config = Config(configs.read_config(path), filename=str(path))
    except configs.ConfigError as error:
        raise TrainingError(str(error)) from error
    changes: dict[str, Any] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not key or not equals:
            raise TrainingError(f"--cfg-options {option} is not of the form KEY=VALUE.")
        _require_key(config._cfg_dict, key)
        changes[key] = DictAction._parse_iterable(value)
    try:
        config.merge_from_dict(changes)
    except (KeyError, TypeError) as error:
        raise TrainingError(f"--cfg-options {' '.join(options)} does not fit the config: {error}.") from error
    return config


def _require_key(config: Any, key: str) -> None:
    """Every step of ``a.b.0.c`` exists; the last may be new where a class or training itself decides what it takes."""
    here, names = config, key.split(".")
    for depth, name in enumerate(names):
        if isinstance(here, (list, tuple)):
            known = [str(index) for index in range(len(here))]
        elif isinstance(here, Mapping):
            known = list(here)
        else:
            raise TrainingError(f"--cfg-options {key}: {'.'.join(names[:depth])} is {here!r} and has no keys.")
        if name not in known:
            optional = _OPTIONAL.get(".".join(names[:depth]), ())
            near = difflib.get_close_matches(name, list(dict.fromkeys([*known, *optional])), n=3)
            is_class = isinstance(here, Mapping) and depth > 0 and ("type" in here or "policy" in here)
            if name in optional or (is_class and not near):
                return
            place = f"{'.'.join(names[:depth])} in the config" if depth else "the config"
            there = f"near it: {', '.join(near)}" if near else f"there: {', '.join(map(str, known)) or 'nothing'}"
            raise TrainingError(f"--cfg-options {key}: {place} has no {name}; {there}.")
        here = here[int(name)] if isinstance(here, (list, tuple)) else here[name]
