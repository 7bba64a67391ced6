"""The commands of README.md: `invoke --list` names them, `invoke --help TASK` explains one, `--dry` prints it.

Runs from any Python that has invoke: every task but `setup` works in `.venv`, the environment that `setup` makes.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from invoke import Collection, Context, Exit, task

ROOT = Path(__file__).resolve().parent
PYTHON = ROOT / ".venv" / "bin" / "python"


def _in_environment(c: Context, *command: str) -> None:
    """Run `python COMMAND` of the environment, from the project root."""
    if not PYTHON.exists():
        raise Exit("The environment .venv does not exist yet: run `make setup` first.", code=2)
    with c.cd(str(ROOT)):
        c.run(shlex.join([str(PYTHON), *command]), pty=False)


@task(
    help={
        "variant": "cpu or cu118; without it cu118 where an NVIDIA GPU is found, cpu elsewhere",
        "flash_attn": "also compile flash-attn 2.3.5 (hours; needs nvcc 11.8)",
    }
)
def setup(c: Context, variant: str = "", flash_attn: bool = False) -> None:
    """Make or update .venv: Python 3.10, every package by hash, mmcv-full, mmdet3d and our op compiled."""
    command = ["scripts/bootstrap.sh", *(["--flash-attn"] if flash_attn else [])]
    with c.cd(str(ROOT)):
        c.run(shlex.join(command), env={"VARIANT": variant} if variant else {}, pty=False)


@task(help={"check": "change nothing; fail when a lock no longer follows from the table"})
def lock(c: Context, check: bool = False) -> None:
    """Write environment/*.lock from environment/pins.toml."""
    _in_environment(c, "scripts/lock.py", *(["--check"] if check else []))


@task(
    help={
        "frame": "a folder with the six camera images of one frame; without it six rendered ones",
        "output": "where report.json and report.html go (default: outputs/verify)",
    }
)
def verify(c: Context, frame: str = "", output: str = "") -> None:
    """The main job: prove the environment, the op and the backbone, and write the report."""
    options = [*(["--frame", frame] if frame else []), *(["--output", output] if output else [])]
    _in_environment(c, "-m", "racdino.verify", *options)


@task(
    help={
        "quick": "leave out what takes more than about ten seconds",
        "select": "pytest -k expression",
        "newest": "ops, backbones and weights on the newest torch instead, in an environment of its own (5 GB)",
    }
)
def test(c: Context, quick: bool = False, select: str = "", newest: bool = False) -> None:
    """Run the tests; what needs a GPU is skipped with its reason where there is none."""
    if newest:
        _in_environment(c, "scripts/newest.py")
        return
    options = [*(["-m", "not slow"] if quick else []), *(["-k", select] if select else [])]
    _in_environment(c, "-m", "pytest", *options)


@task(help={"fix": "write the formatter's and the linter's safe changes instead of only naming them"})
def lint(c: Context, fix: bool = False) -> None:
    """Check style and types: ruff and mypy, as configured in pyproject.toml."""
    _in_environment(c, "-m", "ruff", "check", *(["--fix"] if fix else []), ".")
    _in_environment(c, "-m", "ruff", "format", *([] if fix else ["--check"]), ".")
    _in_environment(c, "-m", "mypy")


@task(help={"cuda": "on the GPU, beside the original's mapping and grid_sample, instead of on the CPU beside mmcv"})
def bench(c: Context, cuda: bool = False) -> None:
    """Print the op's times and memory beside its named peers, measured in the same run."""
    _in_environment(c, "benchmarks/msda.py", *(["--cuda"] if cuda else []))


namespace = Collection(setup, lock, verify, test, lint, bench)
