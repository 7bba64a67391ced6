"""What this machine has: GPU, nvcc, compilers, headers, disk. Each thing that is missing is one sentence."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from scripts.setup.errors import SetupError

VARIANTS = ("cpu", "cu118")
_DRIVER = Path("/proc/driver/nvidia/version")
_CUDA_FOLDERS = (Path("/usr/local"), Path("/opt"))
_GIB = 1 << 30


@dataclass(frozen=True)
class Compilers:
    """The host compilers, and nvcc with the folder it is in where the variant compiles for GPUs."""

    cc: str
    cxx: str
    cxx_version: str
    cuda_home: str | None = None
    nvcc_version: str | None = None


def choose_variant(requested: str | None, installed: str | None) -> str:
    """What the user says, else what .venv is, else cu118 where there is an NVIDIA GPU and cpu elsewhere."""
    if requested:
        if requested not in VARIANTS:
            raise SetupError(f"VARIANT={requested} does not exist: use VARIANT=cpu or VARIANT=cu118.")
        return requested
    if installed:
        return installed
    return "cu118" if has_nvidia_gpu() else "cpu"


def has_nvidia_gpu(driver: Path = _DRIVER) -> bool:
    """Whether an NVIDIA driver with at least one GPU answers."""
    if driver.exists():
        return True
    answer = _output("nvidia-smi", "-L")
    return answer is not None and "GPU" in answer


def find_compilers(variant: str, nvcc: str, gcc_max: int) -> Compilers:
    """The compilers for a variant.

    Args:
        nvcc: the full version in pins.toml (11.8.89).
        gcc_max: the newest gcc that this nvcc takes.
    Raises:
        SetupError: there is no C++ compiler; or, for cu118, no nvcc 11.8 or no gcc that it takes.
    """
    cc, cxx = _host_compilers()
    if variant == "cpu":
        return Compilers(cc, cxx, _first_line(cxx))
    cuda_home = _find_cuda(nvcc)
    major = _gcc_major(cxx)
    if major is not None and major > gcc_max:
        cc, cxx = f"gcc-{gcc_max}", f"g++-{gcc_max}"
        if not (shutil.which(cc) and shutil.which(cxx)):
            raise SetupError(
                f"nvcc {nvcc} takes gcc up to {gcc_max} and this is gcc {major}: apt install g++-{gcc_max}, "
                f"dnf install gcc-toolset-{gcc_max}-gcc-c++, or without root conda install -c conda-forge "
                f"gxx_linux-64={gcc_max}; then set CC and CXX to them and run `make setup` again."
            )
    return Compilers(cc, cxx, _first_line(cxx), str(cuda_home), nvcc)


def require_headers(include: str | None = None) -> None:
    """Raise unless this Python can compile extensions."""
    folder = include or sysconfig.get_paths()["include"]
    if not (Path(folder) / "Python.h").exists():
        raise SetupError(
            f"Python's headers are missing ({folder}/Python.h): apt install python3.10-dev, "
            "dnf install python3.10-devel, or without root `uv python install 3.10`; then run `make setup` again."
        )


def require_space(needs: dict[Path, float]) -> None:
    """Raise unless each file system has room for all that goes to it.

    Args:
        needs: GiB by folder; the folders need not exist yet.
    """
    by_device: dict[int, tuple[Path, float]] = {}
    for folder, gib in needs.items():
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        device = existing.stat().st_dev
        first, so_far = by_device.get(device, (existing, 0.0))
        by_device[device] = (first, so_far + gib)
    for folder, gib in by_device.values():
        free = shutil.disk_usage(folder).free / _GIB
        if free < gib:
            raise SetupError(
                f"{gib:.0f} GiB are needed on the disk of {folder} and {free:.1f} are free: free some space, or set "
                "UV_CACHE_DIR and XDG_CACHE_HOME to another disk, and run `make setup` again."
            )


def _host_compilers() -> tuple[str, str]:
    cc = os.environ.get("CC") or next((name for name in ("cc", "gcc") if shutil.which(name)), "")
    cxx = os.environ.get("CXX") or next((name for name in ("c++", "g++") if shutil.which(name)), "")
    for name, compiler in (("CC", cc), ("CXX", cxx)):
        if compiler and not shutil.which(compiler.split()[0]):
            raise SetupError(f"{name}={compiler} does not exist: unset it or set it to a compiler that does.")
    if not cc or not cxx:
        raise SetupError(
            "there is no C++ compiler: apt install g++, dnf install gcc-c++, or without root conda install "
            "-c conda-forge gxx_linux-64 and set CC and CXX; then run `make setup` again."
        )
    return cc, cxx


def _find_cuda(version: str) -> Path:
    release = ".".join(version.split(".")[:2])
    named = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    on_path = shutil.which("nvcc")
    homes = [Path(named)] if named else []
    homes += [folder / name for folder in _CUDA_FOLDERS for name in (f"cuda-{release}", "cuda")]
    homes += [Path(on_path).resolve().parents[1]] if on_path else []
    for home in homes:
        answer = _output(str(home / "bin" / "nvcc"), "--version")
        if answer and f"release {release}," in answer:
            return home
    raise SetupError(
        f"an NVIDIA GPU needs nvcc {release} to compile the operators, and none was found: use the image, install the "
        f"toolkit (Debian 12: apt install nvidia-cuda-toolkit; Ubuntu 22.04 and RHEL with NVIDIA's repository: "
        f"cuda-toolkit-{release.replace('.', '-')}; without root: conda install -c nvidia/label/cuda-{release}.0 "
        "cuda-toolkit) and set CUDA_HOME, or run VARIANT=cpu make setup."
    )


def _gcc_major(cxx: str) -> int | None:
    """Major version where ``cxx`` is gcc; None for another compiler."""
    line = _first_line(cxx)
    if "clang" in line:
        return None
    match = re.search(r"\) (\d+)\.", line)
    return int(match[1]) if match else None


def _first_line(cxx: str) -> str:
    answer = _output(*cxx.split(), "--version")
    if not answer:
        raise SetupError(f"{cxx} --version fails: install a working one (apt install g++, dnf install gcc-c++).")
    return answer.splitlines()[0]


def _output(*command: str) -> str | None:
    """What a command prints, or None where it is not there or fails."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout if answer.returncode == 0 else None
