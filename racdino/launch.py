"""``racdino train``, ``eval`` and ``shell``: each becomes the program it starts, so that signals reach that program."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path


def replace_process(command: Sequence[str]) -> int:
    """Become ``command``, its arguments untouched; returns only where it cannot start: 127 not found, 126 not runnable.

    Raises nothing: the reason is one sentence on stderr.
    """
    sys.stdout.flush()
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these, and what it becomes would inherit that
        signal.signal(number, signal.SIG_DFL)
    program = command[0]
    try:
        os.execvp(program, list(command))
    except (FileNotFoundError, NotADirectoryError):
        if shutil.which(program):
            return _refuse(126, f"{program} cannot run: the interpreter in its first line is not here.")
        where = program if "/" in program else f"{program} in PATH ({os.environ.get('PATH', '')})"
        return _refuse(127, f"there is no {where}; the commands of racdino are in `racdino --help`.")
    except (OSError, ValueError) as error:  # no permission, no program; an empty or impossible name
        return _refuse(126, f"{program!r} cannot run: {getattr(error, 'strerror', None) or error}.")


def train(arguments: Sequence[str]) -> int:
    """``train.py`` of the working directory: ``CONFIG ...`` or its own options, one process per visible GPU."""
    return _launch("train", "train.py", arguments)


def evaluate(arguments: Sequence[str]) -> int:
    """``val.py`` of the working directory, like `train`."""
    return _launch("eval", "val.py", arguments)


def shell(arguments: Sequence[str]) -> int:
    """bash, or sh where there is none."""
    return replace_process([shutil.which("bash") or "sh", *arguments])


def _launch(command: str, script: str, arguments: Sequence[str]) -> int:
    if not Path(script).is_file():
        return _refuse(
            2,
            f"{Path.cwd()} has no {script}, and this release has no training loop of its own yet: "
            f"run `racdino {command}` in a checkout with {script}, in the image mounted at /workspace.",
        )
    options = list(arguments)
    if options and not options[0].startswith("-"):
        if not Path(options[0]).is_file():
            return _refuse(2, f"{Path(options[0]).absolute()}, the config, does not exist.")
        options.insert(0, "--config")
    return replace_process([*_starter(), script, *options])


def _starter() -> list[str]:
    """Python, or torchrun where there are several GPUs and nobody (Slurm, torchrun, Kubernetes) has set the ranks."""
    from racdino.doctor.gpu_driver import probe

    gpus = 1 if "WORLD_SIZE" in os.environ else len(probe().gpus)
    if gpus > 1:
        return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(gpus)]
    return [sys.executable]


def _refuse(status: int, sentence: str) -> int:
    print(f"racdino: {sentence}", file=sys.stderr)
    return status
