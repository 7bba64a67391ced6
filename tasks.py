"""The commands of README.md: `invoke --list` names them, `invoke --help TASK` explains one, `--dry` prints it.

Runs from any Python that has invoke. The tasks of the environment work in `.venv`, which `setup` makes, or in the dev
image's own; those of the image need neither: `scripts/bootstrap.sh --tools TASK` brings invoke alone.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from invoke import Collection, Context, Exit, task

ROOT = Path(__file__).resolve().parent
PYTHON = Path(sys.executable) if "RACDINO_IMAGE" in os.environ else ROOT / ".venv" / "bin" / "python"


def _in_environment(c: Context, *command: str) -> None:
    """Run `python COMMAND` of the environment, from the project root."""
    if not PYTHON.exists():
        raise Exit("The environment .venv does not exist yet: run `make setup` first.", code=2)
    with c.cd(str(ROOT)):
        c.run(shlex.join([str(PYTHON), *command]), pty=False)


def _for_image(module: str, *arguments: str) -> None:
    """Become `python -m scripts.image.MODULE`: its signals, terminal and status are then its own."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    os.execv(sys.executable, [sys.executable, "-m", f"scripts.image.{module}", *arguments])


def _options(**values: str | bool) -> list[str]:
    """`--name value` for each value that was given, `--name` for each switch."""
    given = {f"--{name.replace('_', '-')}": value for name, value in values.items() if value}
    return [word for name, value in given.items() for word in ([name] if value is True else [name, str(value)])]


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


@task(
    help={
        "check": "change nothing; fail when a lock no longer follows from the table",
        "apt": "apt.lock, the image's Debian packages, at what the archive has today; shows every difference",
    }
)
def lock(c: Context, check: bool = False, apt: bool = False) -> None:
    """Write environment/*.lock from environment/pins.toml."""
    _in_environment(c, "scripts/lock.py", *_options(check=check, apt=apt))


@task(
    help={
        "frame": "a folder with the six camera images of one frame; without it six rendered ones",
        "output": "where report.json and report.html go (default: outputs/verify)",
        "image": "in a container of the image built last, not in .venv",
    }
)
def verify(c: Context, frame: str = "", output: str = "", image: bool = False) -> None:
    """The main job: prove the environment, the op and the backbone, and write the report."""
    if image:
        if frame or output:
            raise Exit("A container sees no folder of yours but the checkout: leave --frame and --output away.", code=2)
        _for_image("run", "verify")
    _in_environment(c, "-m", "racdino.verify", *_options(frame=frame, output=output))


@task
def demo(c: Context) -> None:
    """Verify, then train, evaluate and draw a small RaCFormer on a rendered data set: outputs/demo."""
    _in_environment(c, "-m", "racdino.verify")
    _in_environment(c, "-m", "racdino.demo")


@task(
    help={
        "quick": "leave out what takes more than about ten seconds",
        "select": "pytest -k expression",
        "newest": "ops, backbones, weights and detector on the newest torch, in an environment of its own (5 GB)",
        "image": "the tests of the image built last, and those that need an engine; the others leave them out",
    }
)
def test(c: Context, quick: bool = False, select: str = "", newest: bool = False, image: bool = False) -> None:
    """Run the tests; what needs a GPU is skipped with its reason where there is none."""
    if newest:
        _in_environment(c, "scripts/newest.py")
        return
    marked = ("container" if image else "not container") + (" and not slow" if quick else "")
    _in_environment(c, "-m", "pytest", "-m", marked, *(["-k", select] if select else []))


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


@task(
    help={
        "variant": "cpu or cu118; without it cu118 where an NVIDIA GPU is found, cpu elsewhere",
        "target": "runtime, or dev: with compilers and the tools of development",
        "arch_list": "GPU targets of our operator where not those of pins.toml, e.g. 9.0",
        "flash_attn": "source (hours), or url: the wheel at $FLASH_ATTN_URL with $FLASH_ATTN_SHA256",
        "bundle": "a folder that `invoke bundle` filled: build from it, with the network off",
        "tag": "the image's name, instead of racdino:torch20-VARIANT and racdino:latest",
        "engine": "docker or podman",
        "dry": "print the engine's command and make nothing",
    }
)
def build(
    c: Context,
    variant: str = "",
    target: str = "",
    arch_list: str = "",
    flash_attn: str = "",
    bundle: str = "",
    tag: str = "",
    engine: str = "",
    dry: bool = False,
) -> None:
    """Build the image: `make image`."""
    given = _options(variant=variant, target=target, arch_list=arch_list, flash_attn=flash_attn)
    _for_image("build", *given, *_options(bundle=bundle, tag=tag, engine=engine, dry=dry))


_RUN_HELP = {
    "options": "further arguments in one string, e.g. '--override batch_size=1'",
    "data": "a data set's folder, mounted read-only at data/nuscenes",
    "gpus": "all, none, or devices such as 0,1",
    "image": "the image's name (default: racdino:latest)",
    "dry": "print the engine's command and run nothing",
}


def _run(command: list[str], options: str, data: str, gpus: str, image: str, dry: bool) -> None:
    if data:
        os.environ["RACDINO_DATA"] = data
    _for_image("run", *_options(image=image, gpus=gpus, dry=dry), *command, *shlex.split(options))


@task(positional=["config"], help={"config": "path of a config in the checkout", **_RUN_HELP})
def train(
    c: Context, config: str, options: str = "", data: str = "", gpus: str = "", image: str = "", dry: bool = False
) -> None:
    """Train in the image, on the checkout in the current folder; without an engine in .venv."""
    _run(["train", config], options, data, gpus, image, dry)


@task(positional=["config"], name="eval", help={"config": "path of a config in the checkout", **_RUN_HELP})
def evaluate(
    c: Context, config: str, options: str = "", data: str = "", gpus: str = "", image: str = "", dry: bool = False
) -> None:
    """Evaluate in the image, on the checkout in the current folder."""
    _run(["eval", config], options, data, gpus, image, dry)


@task(help=_RUN_HELP)
def shell(c: Context, options: str = "", data: str = "", gpus: str = "", image: str = "", dry: bool = False) -> None:
    """Open a shell in the image, on the checkout in the current folder."""
    _run(["shell"], options, data, gpus, image, dry)


@task(positional=["folder"], help={"folder": "where to collect", "variant": "as for build"})
def bundle(c: Context, folder: str, variant: str = "") -> None:
    """Collect everything that a build fetches into one folder, with checksums: for `make image BUNDLE=folder`."""
    _for_image("bundle", folder, *_options(variant=variant))


@task(
    positional=["name"],
    help={"name": "the image (default: racdino:latest)", "record": "accept its size as the new one"},
)
def size(c: Context, name: str = "", record: bool = False) -> None:
    """Print what the image weighs, by layer and by package, against its budget."""
    _for_image("size", *([name] if name else []), *_options(record=record))


@task(help={"variant": "cpu or cu118", "arch_list": "GPU targets of our operator where not those of pins.toml"})
def reproduce(c: Context, variant: str = "", arch_list: str = "") -> None:
    """Build the image twice from two folders, without any cache, and compare layer by layer (slow)."""
    _for_image("reproduce", *_options(variant=variant, arch_list=arch_list))


@task(positional=["file"], help={"file": "the archive to write", "name": "the image (default: racdino:latest)"})
def save(c: Context, file: str, name: str = "") -> None:
    """Write the image as an archive without times, the same bytes for the same image: for clusters and mirrors."""
    _for_image("save", file, *([name] if name else []))


@task
def drill(c: Context) -> None:
    """Break copies of the environment and of a checkout, one fault at a time, and print what the doctor says."""
    _in_environment(c, "-m", "scripts.drill")


@task
def pages(c: Context) -> None:
    """Write docs/doctor from the checks."""
    _in_environment(c, "-m", "racdino.doctor.pages", "docs/doctor")


_environment = (setup, lock, verify, demo, test, lint, bench)
namespace = Collection(*_environment, build, train, evaluate, shell, bundle)
namespace.add_collection(Collection("image", size, reproduce, save))
namespace.add_collection(Collection("doctor", drill, pages))
