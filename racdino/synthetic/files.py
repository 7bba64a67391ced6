"""nuScenes' sensor files: binary PCD of the radars, .pcd.bin of the LiDAR, JPEG of the cameras."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from racdino.synthetic.radar import POINT

JPEG_QUALITY = 90
_HEADER = """# .PCD v0.7 - Point Cloud Data file format
VERSION 0.7
FIELDS {fields}
SIZE {sizes}
TYPE {types}
COUNT {counts}
WIDTH {points}
HEIGHT 1
VIEWPOINT 0 0 0 1 0 0 0
POINTS {points}
DATA binary
"""


def write_radar(path: Path, points: np.ndarray) -> None:
    """``points`` (n,) of ``radar.POINT``. A sweep without any is one point of NaN, as nuScenes has it."""
    if len(points) == 0:
        points = np.zeros(1, POINT)
        for name in ("x", "y", "z"):
            points[name] = np.nan
    columns = [POINT[name] for name in POINT.names or ()]
    header = _HEADER.format(
        fields=" ".join(POINT.names or ()),
        sizes=" ".join(str(column.itemsize) for column in columns),
        types=" ".join("F" if column.kind == "f" else "I" for column in columns),
        counts=" ".join("1" for _ in columns),
        points=len(points),
    )
    path.write_bytes(header.encode() + points.tobytes() + b"\n")  # the devkit asks for a byte behind the last point


def write_lidar(path: Path, points: np.ndarray) -> None:
    """``points`` (n, 5) float32."""
    path.write_bytes(points.astype("<f4").tobytes())


def write_image(path: Path, image: np.ndarray) -> None:
    """``image`` (H, W, 3) uint8 blue, green, red."""
    done, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise RuntimeError(f"OpenCV cannot encode {path.name} as JPEG")
    path.write_bytes(encoded.tobytes())
