"""RD201 to RD203: the driver, the GPUs, and code for them in what is compiled."""

from __future__ import annotations

from collections.abc import Iterator

from racdino.doctor.check import Group, Problem, check
from racdino.doctor.environment.subject import Environment
from racdino.doctor.finding import Severity
from racdino.doctor.gpu_driver import NO_DEVICE, Gpu
from racdino.environment.cubins import NEEDED

CUDA_NEEDED = 11080  # 11.8, which torch and the ops are compiled with
DRIVER_NEEDED = "520.61.05"  # the first Linux release that serves it
_NEWEST = (9, 0)  # the newest GPU that torch 2.0.0+cu118 has code for
_TORCH = (
    "`python -m pip install torch==2.0.0+cu118 torchvision==0.15.1+cu118 "
    "--index-url https://download.pytorch.org/whl/cu118`"
)


@check(
    "RD201",
    Group.GPU,
    "a GPU is visible",
    remedy="start the container with `--gpus all`, or see whether `nvidia-smi` works on the host",
    severity=Severity.OPTIONAL,
)
def visible(environment: Environment) -> Iterator[Problem]:
    """Without a GPU everything here runs on the CPU, slowly. A driver that is there and does not start is an error:
    after an update of its packages the library and the kernel module differ until the machine restarts (`Failed to
    initialize NVML`), and `CUDA_VISIBLE_DEVICES` may name a GPU that there is not.

    The driver is asked through its own library, `libcuda.so.1`: no torch, no toolkit, and no GPU memory is taken. On a
    system without `/usr/lib/x86_64-linux-gnu` (Nix, for one) that library has to be on `LD_LIBRARY_PATH`. The cpu
    variant does not ask.
    """
    if environment.variant == "cpu" or environment.driver.gpus:
        return
    driver = environment.driver
    if not driver.library:
        host = f"the host has NVIDIA driver {driver.release}, but " if driver.release else ""
        yield Problem(
            f"no GPU is visible: {host}the driver's libcuda.so.1 is not here",
            "start the container with --gpus all (needs the NVIDIA container toolkit) or "
            "podman's --device nvidia.com/gpu=all",
        )
    elif driver.error in {0, NO_DEVICE}:
        shown = environment.variables.get("CUDA_VISIBLE_DEVICES")
        hidden = f" and CUDA_VISIBLE_DEVICES is '{shown}'" if shown is not None else ""
        yield Problem(
            f"no GPU is visible: the driver's library is here, but it finds no device{hidden}",
            "name one in --gpus, NVIDIA_VISIBLE_DEVICES or CUDA_VISIBLE_DEVICES that `nvidia-smi -L` lists",
        )
    else:
        release = f" {driver.release}" if driver.release else ""
        yield Problem(
            f"no GPU is visible: the NVIDIA driver{release} does not start, cuInit returned {driver.error}",
            "see whether `nvidia-smi` works on the host; after an update of its driver it must restart",
            severity=Severity.ERROR,
        )


@check(
    "RD202",
    Group.GPU,
    "the driver serves CUDA 11.8",
    remedy=f"install driver {DRIVER_NEEDED} or newer on the host",
)
def driver_age(environment: Environment) -> Iterator[Problem]:
    """Everything here is compiled with CUDA 11.8, which NVIDIA's driver serves from release 520.61.05 on. A driver of
    CUDA 11.0 to 11.7 still runs machine code of 11.8 but compiles none of its PTX; an older one runs nothing. A
    container has its host's driver, so it is there that it must be updated.
    """
    if environment.variant == "cpu" or not environment.driver.gpus:
        return
    driver = environment.driver
    if driver.cuda < CUDA_NEEDED:
        release = f" {driver.release}" if driver.release else ""
        serves = f"the NVIDIA driver{release} serves CUDA {driver.cuda // 1000}.{driver.cuda % 1000 // 10}"
        yield Problem(
            f"{serves}, too old for the 11.8 that everything here is compiled with",
            severity=Severity.OPTIONAL if driver.cuda >= 11000 else Severity.ERROR,
        )


@check(
    "RD203",
    Group.GPU,
    "the compiled code is for these GPUs",
    remedy="compile for this GPU: `TORCH_CUDA_ARCH_LIST=9.0 python setup.py build_ext --inplace`, mmcv-full likewise",
)
def kernels(environment: Environment) -> Iterator[Problem]:
    """A library without code for a GPU ends in `no kernel image is available for execution on the device`, at its first
    kernel. torch 2.0.0 of the package index is compiled for CUDA 11.7 and has none for Hopper (9.0), the +cu118
    build has (pytorch#110153); mmcv-full compiled with an older `TORCH_CUDA_ARCH_LIST` lacks it in the same way
    (mmdetection#11044), and compiled where no CUDA was found it has no GPU code at all.

    The targets are read out of the shared objects themselves, as they lie there: no CUDA tool is needed, and no record.
    Machine code runs on its own major version from its minor version on, PTX on every later GPU. What is not installed
    is left to the checks of packages and extensions.
    """
    if environment.variant == "cpu":
        return
    for gpu in dict.fromkeys(environment.driver.gpus):
        carried = {name: environment.targets[name] for name in NEEDED if name in environment.targets}
        without = {name: of for name, of in carried.items() if not of.accepts(gpu.capability)}
        if without:
            has = "; ".join(f"{name} has {of}" for name, of in without.items())
            yield Problem(f"no code for {gpu.name} ({_dotted(gpu)}): {has}", _remedy(gpu, "torch" in without))


def _remedy(gpu: Gpu, of_torch: bool) -> str:
    if not of_torch:
        build = f"`TORCH_CUDA_ARCH_LIST={_dotted(gpu)} python setup.py build_ext --inplace`"
        return f"compile it for this GPU: {build} in its sources"
    if gpu.capability > _NEWEST:
        return "take another GPU: no torch 2.0.0 has code for this one"
    return _TORCH


def _dotted(gpu: Gpu) -> str:
    return "{}.{}".format(*gpu.capability)
