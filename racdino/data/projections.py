"""From LiDAR coordinates to the pixels of any camera at any time, in float64.

nuScenes' global coordinates are kilometres, and centimetres matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def camera_from_global(camera: Mapping[str, Any]) -> np.ndarray:
    """(4, 4) of a camera's record in an info file, at the image's time.

    ``sensor2global_rotation`` is stored transposed, as upstream writes it, so it already turns global into camera axes.
    """
    transform = np.eye(4)
    transform[:3, :3] = camera["sensor2global_rotation"]
    transform[:3, 3] = -transform[:3, :3] @ np.asarray(camera["sensor2global_translation"], np.float64)
    return transform


def intrinsic_4x4(camera: Mapping[str, Any]) -> np.ndarray:
    """Camera coordinates to pixels: (x, y, z, 1) to (u*z, v*z, z, 1)."""
    intrinsic = np.eye(4)
    intrinsic[:3, :3] = camera["cam_intrinsic"]
    return intrinsic


def require_finite(projection: np.ndarray, filename: str) -> np.ndarray:
    """``projection`` itself; ValueError where it has a NaN or infinity."""
    if not np.isfinite(projection).all():
        raise ValueError(f"the pose or calibration of {filename} is not finite, run `racdino data prepare` again")
    return projection
