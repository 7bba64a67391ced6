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
    """``train.py`` of the working directory where there is one, else ours; the demo where nothing is said.

    Arguments are ``CONFIG ...`` or the program's own options. One process per visible GPU.
    """
    if Path("train.py").is_file():
        return _launch_script("train.py", arguments)
    if not arguments:
        return replace_process([*own_python(), "-m", "racdino.demo"])
    return _launch_ours("racdino.openmmlab.training", arguments)


def evaluate(arguments: Sequence[str]) -> int:
    """``val.py`` of the working directory where there is one, else ours, like `train`."""
    if Path("val.py").is_file():
        return _launch_script("val.py", arguments)
    return _launch_ours("racdino.openmmlab.evaluate", arguments)


def shell(arguments: Sequence[str]) -> int:
    """bash, or sh where there is none."""
    return replace_process([shutil.which("bash") or "sh", *arguments])


def _launch_script(script: str, arguments: Sequence[str]) -> int:
    options = list(arguments)
    if options and not options[0].startswith("-"):
        if not Path(options[0]).is_file():
            return _refuse_config(options[0])
        options.insert(0, "--config")
    gpus = _processes()
    torchrun = [sys.executable, "-m", "torch.distributed.run", *_on_this_machine(gpus)]
    return replace_process([*(torchrun if gpus > 1 else [sys.executable]), script, *options])


def _launch_ours(module: str, arguments: Sequence[str]) -> int:
    """The arguments as they are; the first may be the config, and a wrong one is told before anything is imported."""
    if arguments and not arguments[0].startswith("-") and not Path(arguments[0]).is_file():
        return _refuse_config(arguments[0])
    python, gpus = own_python(), _processes()
    if gpus < 2:
        return replace_process([*python, "-m", module, *arguments])
    program = ["--no-python", *python] if len(python) > 1 else []
    torchrun = [*python, "-m", "racdino.training.torchrun", *_on_this_machine(gpus), *program]
    return replace_process([*torchrun, "-m", module, *arguments])


def own_python() -> list[str]:
    """Python, isolated where this one is, as in the image: a racdino/ in the working directory is not ours."""
    return [sys.executable, *(["-I"] if sys.flags.isolated else [])]


def _processes() -> int:
    """As many as there are GPUs; 1 where somebody (Slurm, torchrun, Kubernetes) has set the ranks."""
    from racdino.doctor.gpu_driver import probe

    return 1 if "WORLD_SIZE" in os.environ else len(probe().gpus)


def _on_this_machine(processes: int) -> list[str]:
    return ["--standalone", "--nproc_per_node", str(processes)]


def _refuse_config(config: str) -> int:
    return _refuse(2, f"{Path(config).absolute()}, the config, does not exist.")


def _refuse(status: int, sentence: str) -> int:
    print(f"racdino: {sentence}", file=sys.stderr)
    return status
