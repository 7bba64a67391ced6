"""RD201 to RD203: the driver, the GPUs, and code for them in what is compiled."""

from __future__ import annotations

from collections.abc import Iterator

from racdino.doctor.check import Group, Problem, check
from racdino.doctor.environment.subject import Environment
from racdino.doctor.finding import Severity


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
    system without `/usr/lib/x86_64-linux-gnu` (Nix, for one) that library has to be on `LD_LIBRARY_PATH`.
    """
    yield from environment.of_machine("RD201")


@check(
    "RD202",
    Group.GPU,
    "the driver serves CUDA 11.8",
    remedy="install driver 520.61.05 or newer on the host",
)
def driver(environment: Environment) -> Iterator[Problem]:
    """Everything here is compiled with CUDA 11.8, which NVIDIA's driver serves from release 520.61.05 on. A driver of
    CUDA 11.0 to 11.7 still runs machine code of 11.8 but compiles none of its PTX; an older one runs nothing. A
    container has its host's driver, so it is there that it must be updated.
    """
    yield from environment.of_machine("RD202")


@check(
    "RD203",
    Group.GPU,
    "the compiled code is for these GPUs",
    remedy="take another GPU, or build for this one: `invoke build --arch-list 9.0`",
)
def kernels(environment: Environment) -> Iterator[Problem]:
    """A library without code for a GPU ends in `no kernel image is available for execution on the device`, at its first
    kernel. torch 2.0.0 of the package index is compiled for CUDA 11.7 and has none for Hopper (9.0), the +cu118
    build has (pytorch#110153); mmcv-full compiled with an older `TORCH_CUDA_ARCH_LIST` lacks it in the same way
    (mmdetection#11044).

    The targets are read out of the shared objects themselves, when the environment is made: no CUDA tool is needed.
    """
    yield from environment.of_machine("RD203")
