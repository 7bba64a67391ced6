"""RD101 to RD107: the interpreter, the system, and variables that put other libraries in front of the environment's."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from racdino.doctor.check import Group, Problem, check
from racdino.doctor.environment.subject import Environment
from racdino.doctor.finding import Severity
from racdino.environment.locks import normalised

OLDEST_GLIBC = (2, 17)  # what the wheels of torch 2.0.0 are built for
_LIBRARIES = ("libtorch", "libc10", "libcudart", "libcublas", "libcudnn", "libstdc++")


@check(
    "RD101",
    Group.PLATFORM,
    "Python is 3.10, or 3.8 or 3.9 of your own",
    remedy="`make setup` brings Python 3.10; `source .venv/bin/activate` chooses it",
)
def python_version(environment: Environment) -> Iterator[Problem]:
    """torch 2.0.0, mmcv-full 1.6.0 and numba 0.56.4 have files for Python 3.8 to 3.10. On 3.11 numba 0.56.4 has none,
    on 3.12 `torch.utils.tensorboard` fails, since `distutils` is gone. The locks are for 3.10.
    """
    version = sys.version_info[:2]
    if not (3, 8) <= version <= (3, 10):
        yield Problem(f"this is Python {platform.python_version()}, {sys.executable}")


@check("RD102", Group.PLATFORM, "this is Linux on x86_64", remedy="use a Linux x86_64 machine, or the image on one")
def system(environment: Environment) -> Iterator[Problem]:
    """The compiled packages of this stack exist for 64-bit Linux on x86_64 with glibc 2.17 or newer, and for nothing
    else: not for Windows, macOS, ARM, nor for distributions on musl such as Alpine.
    """
    found = f"{platform.system()} on {platform.machine()}"
    library, version = platform.libc_ver()
    if (platform.system(), platform.machine()) != ("Linux", "x86_64") or sys.maxsize < 2**32:
        yield Problem(f"this is {found}")
    elif library != "glibc":
        yield Problem(f"the C library of this system is {library or 'not glibc'}")
    elif tuple(int(part) for part in version.split(".")[:2]) < OLDEST_GLIBC:
        yield Problem(f"glibc is {version}, older than 2.17")


@check(
    "RD103",
    Group.PLATFORM,
    "CUDA_HOME, where it is set, is CUDA 11.8",
    remedy="point CUDA_HOME at CUDA 11.8, or unset it",
    severity=Severity.OPTIONAL,
)
def cuda_home(environment: Environment) -> Iterator[Problem]:
    """torch's extension builder compiles with the nvcc of `CUDA_HOME`, and refuses one of another major version than
    torch's own CUDA (mmcv#1055 is an installation that found the wrong one). Only building needs it: torch brings the
    CUDA that it runs with.

    `nvcc --version` of that folder is asked.
    """
    home = environment.variables.get("CUDA_HOME") or environment.variables.get("CUDA_PATH")
    if not home:
        return
    nvcc = Path(home) / "bin" / "nvcc"
    if not nvcc.is_file():
        yield Problem(f"CUDA_HOME is {home}, which has no bin/nvcc")
        return
    release = _nvcc_release(nvcc)
    if release != "11.8":
        yield Problem(f"CUDA_HOME is {home}, whose nvcc is of CUDA {release or 'unknown'}")


@check(
    "RD104",
    Group.PLATFORM,
    "nvcc has a compiler that it accepts",
    remedy="install g++-11 (`apt install g++-11`) and set `CC=gcc-11 CXX=g++-11` for the build",
    severity=Severity.OPTIONAL,
)
def host_compiler(environment: Environment) -> Iterator[Problem]:
    """nvcc 11.8 takes gcc up to 11; with a newer one it stops at `unsupported GNU version! gcc versions later than 11
    are not supported!`, and torch 2.0.0 only warns beforehand. Debian 12 and Ubuntu 22.10 and later have a newer gcc
    by default. Looked at only where there is an nvcc, not in the cpu variant: what is compiled already needs no
    compiler.
    """
    path = environment.variables.get("PATH")
    if environment.variant == "cpu" or not shutil.which("nvcc", path=path):
        return
    chosen = environment.variables.get("CXX", "g++")
    if not shutil.which(chosen, path=path):
        yield Problem(f"there is an nvcc but no {chosen}")
    elif _gcc_major(chosen) > 11 and not shutil.which("g++-11", path=path):
        yield Problem(f"{chosen} is version {_gcc_major(chosen)} and nvcc 11.8 takes at most 11")


@check(
    "RD105",
    Group.PLATFORM,
    "LD_LIBRARY_PATH puts no other torch or CUDA in front",
    remedy="`unset LD_LIBRARY_PATH`, or take those folders out of it",
    severity=Severity.OPTIONAL,
)
def library_path(environment: Environment) -> Iterator[Problem]:
    """Folders in `LD_LIBRARY_PATH` are searched before the ones that torch's own libraries name, so a libtorch,
    libcudart or libstdc++ there is loaded in place of the matching one: `undefined symbol`, `GLIBCXX_3.4.29 not
    found`, or wrong results. Modules of clusters (`module load cuda`) and conda set it. The folders are listed,
    nothing is loaded.
    """
    for folder in filter(None, environment.variables.get("LD_LIBRARY_PATH", "").split(":")):
        if environment.prefix in Path(folder).resolve().parents:
            continue
        found = sorted(
            {name.split(".so")[0] for name in _names(folder) if name.startswith(_LIBRARIES) and ".so" in name}
        )
        if found:
            yield Problem(f"LD_LIBRARY_PATH has {folder}, with {', '.join(found)}")


@check(
    "RD106",
    Group.PLATFORM,
    "LD_PRELOAD loads nothing that is absent",
    remedy="`unset LD_PRELOAD`",
    severity=Severity.OPTIONAL,
)
def preload(environment: Environment) -> Iterator[Problem]:
    """A library in `LD_PRELOAD` is loaded into every program before anything else. One that is absent makes every
    command print `object '...' from LD_PRELOAD cannot be preloaded`, DataLoader workers included.
    """
    for name in environment.variables.get("LD_PRELOAD", "").replace(":", " ").split():
        if "/" in name and not Path(name).is_file():
            yield Problem(f"LD_PRELOAD names {name}, which does not exist")


@check(
    "RD107",
    Group.PLATFORM,
    "PYTHONPATH and PYTHONHOME bring in no other installation",
    remedy="`unset PYTHONHOME`, and take site-packages folders out of PYTHONPATH",
)
def python_path(environment: Environment) -> Iterator[Problem]:
    """A site-packages folder in `PYTHONPATH` comes before the environment's own: its torch, numpy or mmcv is imported
    whatever the environment has, possibly compiled for another Python. `PYTHONHOME` moves even the standard library.
    """
    if environment.variables.get("PYTHONHOME"):
        yield Problem(f"PYTHONHOME is {environment.variables['PYTHONHOME']}")
    for folder in filter(None, environment.variables.get("PYTHONPATH", "").split(os.pathsep)):
        metadata = [name for name in _names(folder) if name.endswith((".dist-info", ".egg-info"))]
        ours = sorted({normalised(entry.split("-")[0]) for entry in metadata} & set(environment.pins))
        if ours:
            yield Problem(f"PYTHONPATH has {folder}, with {', '.join(ours[:6])} in front of the environment's")
        elif {"site-packages", "dist-packages"} & set(Path(folder).parts):
            yield Problem(f"PYTHONPATH has {folder}, where packages are installed", severity=Severity.OPTIONAL)


def _names(folder: str) -> list[str]:
    try:
        return [entry.name for entry in Path(folder).iterdir()]
    except OSError:
        return []


def _nvcc_release(nvcc: Path) -> str:
    said = _output(str(nvcc), "--version")
    return said.partition("release ")[2].partition(",")[0]


def _gcc_major(compiler: str) -> int:
    said = _output(compiler, "-dumpversion").strip().partition(".")[0]
    return int(said) if said.isdigit() else 0


def _output(*command: str) -> str:
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=10,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
