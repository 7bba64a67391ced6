"""Run a command in the image: compose the engine's command line, print it, and become it.

    python3 scripts/run.py [--image NAME] [--engine E] [--gpus G] [--env K=V] [--dry] COMMAND [ARGUMENT ...]

What follows COMMAND (verify, data, train, eval, show, shell, info, or exec PROGRAM) reaches the container as it is.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.image.engine import ENGINES, Engine, find_engine
from scripts.image.errors import ImageError
from scripts.image.mounts import Mounts, plan_mounts
from scripts.setup.machine import has_nvidia_gpu

IMAGE = "racdino:latest"
COMMANDS = ("verify", "data", "train", "eval", "show", "shell", "info", "exec")
ROOT = Path(__file__).resolve().parents[2]
_SELINUX = Path("/sys/fs/selinux/enforce")
_STATUS = Path("/proc/self/status")
_SYS_RESOURCE = 24  # the number of that capability
_GIB = 1 << 30
_SHARED_GIB = 16
_STACK = 64 << 20  # bytes


def main(argv: Sequence[str]) -> int:
    """Replace this process by the engine's; return a status only where that does not happen."""
    options = _parser().parse_args(argv)
    try:
        return _run(options)
    except ImageError as error:
        print(f"{options.command}: {error}", file=sys.stderr)
        return 1


def compose(
    engine: Engine,
    image: str,
    arguments: Sequence[str],
    mounts: Mounts,
    *,
    gpus: str = "all",
    variables: Sequence[str] = (),
) -> list[str]:
    """The engine's command line for one command of the image.

    Args:
        arguments: what the image's entry point gets, word by word.
        gpus: `all`, `none`, or a list of devices.
        variables: `NAME=VALUE`, or `NAME` for the caller's own value.
    Raises:
        ImageError: a path cannot be mounted, or podman cannot pass the GPUs on.
    """
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    command = [str(engine.path), "run", "--rm", "--pull=never"]  # a name that is not here is nobody else's to answer
    command += ["-it"] if terminal else []
    command += engine.gpu_options(gpus != "none" and has_nvidia_gpu(), gpus)
    command += ["--shm-size", _shared_memory(), *_limits(engine), *_identity(engine), *_selinux()]
    command += [word for mount in mounts.mounts for word in ("--mount", mount.option())]
    command += [word for variable in variables for word in ("--env", variable)]
    return [*command, image, *arguments]


def _run(options: argparse.Namespace) -> int:
    requested = options.engine or os.environ.get("RACDINO_ENGINE")
    try:
        engine = find_engine(requested)
    except ImageError as error:
        if options.command != "train" or requested:
            raise
        print(f"train: {error} It runs natively, in .venv.", file=sys.stderr)
        return _become(_native(options.arguments), options.dry)
    if not engine.has_image(options.image):
        raise ImageError(f"the image {options.image} does not exist: `make image` builds it.")
    arguments = options.arguments if options.command == "exec" else [options.command, *options.arguments]
    if not arguments:
        raise ImageError("exec needs the program to run: exec PROGRAM [ARGUMENT ...].")
    mounts = plan_mounts(Path.cwd(), os.environ.get("RACDINO_DATA"))
    for remark in mounts.remarks:
        print(f"{options.command}: {remark}", file=sys.stderr)
    command = compose(engine, options.image, arguments, mounts, gpus=options.gpus, variables=options.env)
    return _become(command, options.dry, mounts.folders)


def _become(command: list[str], dry: bool, folders: Sequence[Path] = ()) -> int:
    """Print a command, then run it in place of this process: its signals and its status are then the engine's own."""
    for folder in folders:
        print(shlex.join(["mkdir", "-p", str(folder)]))
        if not dry:
            folder.mkdir(parents=True)
    print(shlex.join(command), flush=True)
    if not dry:
        os.execvp(command[0], command)
    return 0


def _native(arguments: Sequence[str]) -> list[str]:
    python = ROOT / ".venv" / "bin" / "python"
    if not python.exists():
        raise ImageError(f"there is neither a container engine nor {python}: run `make setup`, or install an engine.")
    return [str(python), "-m", "racdino", "train", *arguments]


def _shared_memory() -> str:
    """DataLoader workers hand batches over in /dev/shm and die at the engines' 64 MiB.

    Only what is used counts, as memory: more than half of it would let a leak take the machine down.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{min(_SHARED_GIB * _GIB, memory // 2) >> 20}m"


def _limits(engine: Engine) -> list[str]:
    """Pinned memory and stack for NCCL and its threads, as NVIDIA advises.

    A rootless engine may not raise them, nor one that itself runs in a container without CAP_SYS_RESOURCE.
    """
    bounding = re.findall(r"^CapBnd:\s*(\w+)$", _STATUS.read_text(), re.MULTILINE)
    if engine.rootless or not all(int(mask, 16) >> _SYS_RESOURCE & 1 for mask in bounding):
        return []
    return ["--ulimit", "memlock=-1", "--ulimit", f"stack={_STACK}"]


def _identity(engine: Engine) -> list[str]:
    """The caller's, so that what a container writes on a mount belongs to the caller."""
    if engine.rootless and engine.name == "docker":
        return ["--user", "0:0"]  # root in there is the caller out here
    caller = ["--user", f"{os.getuid()}:{os.getgid()}"]
    if engine.rootless:
        return ["--userns=keep-id", *caller]
    # Data sets of a lab are often readable by a group alone.
    groups = sorted(set(os.getgroups()) - {os.getgid()})
    return caller + [word for group in groups for word in ("--group-add", str(group))]


def _selinux() -> list[str]:
    """Where SELinux enforces, no separation by label for this container.

    The other way, `:z` on each mount, would write a new label on every file of a data set, and fails on NFS.
    """
    enforcing = _SELINUX.is_file() and _SELINUX.read_text().strip() == "1"
    return ["--security-opt", "label=disable"] if enforcing else []


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="run", description="Run a command in the image, through docker or podman.")
    parser.add_argument("--image", default=IMAGE, help="its name (default: %(default)s, the one built last)")
    parser.add_argument("--engine", choices=ENGINES, help="default: $RACDINO_ENGINE, else docker, else podman")
    parser.add_argument("--gpus", default="all", help="all, none, or devices such as 0,1 (default: all there are)")
    parser.add_argument("--env", action="append", default=[], metavar="NAME[=VALUE]", help="for the container; repeat")
    parser.add_argument("--dry", action="store_true", help="print the command and run nothing")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=", ".join(COMMANDS))
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENT", help="passed on as they are")
    return parser


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
