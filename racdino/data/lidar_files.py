"""nuScenes' LiDAR sweeps: five float32 a point and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

VALUES = 5  # x, y, z, intensity, ring
_POINT_BYTES = VALUES * 4


class LidarFileError(ValueError):
    """The file is empty, cut off, or not in nuScenes' layout; the message names it and what is wrong."""


def read_lidar(path: str | os.PathLike[str]) -> np.ndarray:
    """All points of one LiDAR sweep.

    Args:
        path: a ``.pcd.bin`` of nuScenes' samples/LIDAR_TOP or sweeps/LIDAR_TOP.
    Returns:
        (n, 5) float32: x, y, z in metres in the sensor's frame (x right, y forward), intensity 0..255, ring 0..31.
    Raises:
        LidarFileError: see there. FileNotFoundError: there is no such file.
    """
    check_lidar(path)
    return np.fromfile(path, "<f4").reshape(-1, VALUES)


def check_lidar(path: str | os.PathLike[str]) -> None:
    """Raise LidarFileError where the file's size cannot be that of a sweep. Reads nothing."""
    size = Path(path).stat().st_size
    if size == 0:
        raise LidarFileError(f"LiDAR file {path} is empty: copy or download it again.")
    if size % _POINT_BYTES:
        raise LidarFileError(
            f"LiDAR file {path} is cut off or no sweep of nuScenes: {size} bytes are no multiple of {_POINT_BYTES}."
        )
