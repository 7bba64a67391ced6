"""Will this machine, and the way this container was started, let training run? Standard library only.

The image's entrypoint prints what is not in order; ``racdino doctor`` prints all of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from racdino.container import places
from racdino.doctor.finding import Finding, Severity
from racdino.doctor.gpu_driver import NO_DEVICE, Driver, Gpu, probe
from racdino.environment import cubins, image

SHARED_MEMORY = Path("/dev/shm")
# A sample is 6 cameras x 8 frames x 704 x 256 x 3 float32 = 99 MiB. Each of a GPU's 4 loader processes (the configs'
# workers_per_gpu) prefetches 2 batches of 2 samples, which wait in shared memory: 4 x 2 x 2 x 99 MiB = 1.5 GiB.
SHARED_MEMORY_NEEDED = 2 << 30  # bytes, for one GPU
CUDA_NEEDED = 11080  # 11.8, which torch and the ops are compiled with
DRIVER_NEEDED = "520.61.05"  # the first Linux release that serves it
_UNMAPPED = 65534  # how a user who is not in this user namespace looks from inside


def machine_findings(driver: Driver | None = None) -> Iterator[Finding]:
    """Every check of the machine, in order. ``driver`` stands in for the real one."""
    yield shared_memory()
    variant = image.variant(sys.prefix)
    if variant == "cpu":
        yield Finding("RD201", Severity.OK, "not asked: this is the cpu variant")
    else:
        yield from gpu_findings(driver or probe(), cubins.read(sys.prefix))
    if places.in_image():
        yield workspace()


def start_warnings(driver: Driver | None = None) -> list[str]:
    """One line for each finding that is not in order, with its remedy."""
    findings = machine_findings(driver)
    return [f"{finding.cause}: {finding.remedy}" for finding in findings if finding.severity is not Severity.OK]


def shared_memory() -> Finding:
    """Is there room for the batches that loader processes hand over? A full /dev/shm kills them with SIGBUS."""
    try:
        found = os.statvfs(SHARED_MEMORY)
    except OSError as error:
        cause = f"{SHARED_MEMORY} cannot be used ({error.strerror}), and the data loader works through it"
        return Finding("RD901", Severity.OPTIONAL, cause, "start the container with --shm-size=16g or --ipc=host")
    free = found.f_bavail * found.f_frsize
    if free < SHARED_MEMORY_NEEDED:
        needed = f"the data loader of one GPU needs {SHARED_MEMORY_NEEDED >> 20}"
        cause = f"{SHARED_MEMORY} has {free >> 20} MiB free, and {needed}"
        return Finding("RD901", Severity.OPTIONAL, cause, "start the container with --shm-size=16g or --ipc=host")
    return Finding("RD901", Severity.OK, f"{free >> 20} MiB of shared memory")


def gpu_findings(driver: Driver, listed: dict[str, cubins.Targets] | None) -> Iterator[Finding]:
    """Is a GPU visible, is its driver new enough, and is there code for it in what is installed?

    Args:
        listed: the environment's `cubins.read`; None where nobody listed it, which is a finding of its own.
    """
    if not driver.gpus:
        yield _no_gpu(driver)
        return
    names = ", ".join(f"{gpu.name} ({_dotted(gpu)})" for gpu in driver.gpus)
    yield Finding("RD201", Severity.OK, names)
    yield _driver_age(driver)
    if listed is None:
        cause = "which GPUs the compiled code is for was not recorded in this environment"
        yield Finding("RD203", Severity.OPTIONAL, cause, "python -m racdino.environment.cubins")
        return
    for gpu in dict.fromkeys(driver.gpus):
        yield _kernels(gpu, cubins.by_library(listed))


def workspace() -> Finding:
    """Can the checkout that is mounted at the workspace be written, so that results belong to the caller?"""
    place = places.WORKSPACE
    if not places.is_mounted():
        return Finding("RD902", Severity.OK, f"nothing is mounted at {place}")
    if os.access(place, os.W_OK | os.X_OK):
        return Finding("RD902", Severity.OK, f"{place} can be written")
    if os.statvfs(place).f_flag & os.ST_RDONLY:
        return Finding("RD902", Severity.OK, f"{place} is mounted read-only")
    owner = place.stat()
    cause = f"{place} belongs to {owner.st_uid}:{owner.st_gid} and user {os.geteuid()} cannot write it"
    remedy = f"start the container with --user {owner.st_uid}:{owner.st_gid}"
    if owner.st_uid == _UNMAPPED or Path("/run/.containerenv").exists():  # podman leaves that file
        remedy = "start the container with podman's --userns=keep-id"
    return Finding("RD902", Severity.OPTIONAL, cause, remedy)


def _no_gpu(driver: Driver) -> Finding:
    if not driver.library:
        host = f"the host has NVIDIA driver {driver.release}, but " if driver.release else ""
        cause = f"no GPU is visible: {host}the driver's libcuda.so.1 is not here"
        remedy = (
            "start the container with --gpus all (needs the NVIDIA container toolkit) or "
            "podman's --device nvidia.com/gpu=all"
        )
    elif driver.error in {0, NO_DEVICE}:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hidden = f" and CUDA_VISIBLE_DEVICES is '{visible}'" if visible is not None else ""
        cause = f"no GPU is visible: the driver's library is here, but it finds no device{hidden}"
        remedy = "name one in --gpus, NVIDIA_VISIBLE_DEVICES or CUDA_VISIBLE_DEVICES that `nvidia-smi -L` lists"
    else:
        release = f" {driver.release}" if driver.release else ""
        cause = f"no GPU is visible: the NVIDIA driver{release} does not start, cuInit returned {driver.error}"
        remedy = "see whether `nvidia-smi` works on the host; after an update of its driver it must restart"
        return Finding("RD201", Severity.ERROR, cause, remedy)
    return Finding("RD201", Severity.OPTIONAL, cause, remedy)


def _driver_age(driver: Driver) -> Finding:
    release = f" {driver.release}" if driver.release else ""
    serves = f"the NVIDIA driver{release} serves CUDA {driver.cuda // 1000}.{driver.cuda % 1000 // 10}"
    if driver.cuda < CUDA_NEEDED:
        # Any driver of CUDA 11 loads machine code of 11.8, but not its PTX; an older one loads nothing.
        severity = Severity.OPTIONAL if driver.cuda >= 11000 else Severity.ERROR
        cause = f"{serves}, too old for the 11.8 that everything here is compiled with"
        return Finding("RD202", severity, cause, f"install driver {DRIVER_NEEDED} or newer on the host")
    return Finding("RD202", Severity.OK, serves)


def _kernels(gpu: Gpu, carried: dict[str, cubins.Targets]) -> Finding:
    """Does each library hold code for this GPU? Those that are there and optional are only named."""
    without = [name for name, of in carried.items() if not of.accepts(gpu.capability)]
    without += [name for name in cubins.NEEDED if name not in carried]
    fatal = [name for name in without if name in cubins.NEEDED]
    which = f"{gpu.name} ({_dotted(gpu)})"
    if fatal:
        has = "; ".join(f"{name} has {carried.get(name, cubins.Targets())}" for name in fatal)
        cause = f"no code for {which}: {has}"
        return Finding("RD203", Severity.ERROR, cause, "take another GPU, or build the image for this one")
    lacking = f"; none in {', '.join(without)}" if without else ""
    return Finding("RD203", Severity.OK, f"code for {which} in {', '.join(cubins.NEEDED)}{lacking}")


def _dotted(gpu: Gpu) -> str:
    return "{}.{}".format(*gpu.capability)
