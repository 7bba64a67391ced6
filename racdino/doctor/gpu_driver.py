"""What the NVIDIA driver says about itself and its GPUs, asked through its own library: no torch, no CUDA toolkit."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from ctypes import byref, c_int
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KERNEL_MODULE = Path("/proc/driver/nvidia/version")
NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


@dataclass(frozen=True)
class Gpu:
    """One visible GPU and its compute capability."""

    name: str
    capability: tuple[int, int]


@dataclass(frozen=True)
class Driver:
    """The driver as this process sees it.

    Attributes:
        library: whether ``libcuda.so.1`` is here.
        cuda: the newest CUDA it serves, as 1000 * major + 10 * minor; 0 when unknown.
        error: what ``cuInit`` returned, 0 for success.
        gpus: the visible ones; ``CUDA_VISIBLE_DEVICES`` counts.
        release: the kernel module's release, e.g. ``520.61.05``; empty where it is not loaded.
    """

    library: bool = False
    cuda: int = 0
    error: int = 0
    gpus: tuple[Gpu, ...] = ()
    release: str = ""


def probe(load: Callable[[str], Any] = ctypes.CDLL) -> Driver:
    """Ask the driver. It is initialised in this process but makes no context, so no GPU memory is taken.

    Args:
        load: opens a shared library by name, or raises OSError.
    """
    release = _release()
    try:
        cuda = load("libcuda.so.1")
    except OSError:
        return Driver(release=release)
    version, count = c_int(0), c_int(0)
    cuda.cuDriverGetVersion(byref(version))
    error = cuda.cuInit(0) or cuda.cuDeviceGetCount(byref(count))
    gpus = tuple(_gpu(cuda, number) for number in range(count.value)) if not error else ()
    return Driver(True, version.value, error, gpus, release)


def _gpu(cuda: Any, number: int) -> Gpu:
    device, major, minor = c_int(0), c_int(0), c_int(0)
    name = ctypes.create_string_buffer(96)
    cuda.cuDeviceGet(byref(device), number)
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDeviceGetAttribute(byref(major), _MAJOR, device)
    cuda.cuDeviceGetAttribute(byref(minor), _MINOR, device)
    return Gpu(name.value.decode(errors="replace"), (major.value, minor.value))


def _release() -> str:
    try:
        found = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", KERNEL_MODULE.read_text())
    except OSError:
        return ""
    return found[1] if found else ""
