"""nuScenes' radar sweeps: binary point cloud files (PCD 0.7), read in one numpy call instead of point by point."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import numpy as np

FIELDS = (
    *("x", "y", "z", "dyn_prop", "id", "rcs", "vx", "vy", "vx_comp", "vy_comp", "is_quality_valid", "ambig_state"),
    *("x_rms", "y_rms", "invalid_state", "pdh0", "vx_rms", "vy_rms"),
)
_HEADER_BYTES = 4096  # nuScenes' headers have about 300
_NUMPY_KINDS = {"F": "f", "I": "i", "U": "u"}


class RadarFileError(ValueError):
    """The file is empty, cut off, or no radar sweep in nuScenes' layout; the message names it and what is wrong."""


def read_radar(path: str | os.PathLike[str]) -> np.ndarray:
    """All points of one radar sweep, unfiltered.

    Args:
        path: a ``.pcd`` of nuScenes' samples/RADAR_* or sweeps/RADAR_*.
    Returns:
        (18, n) float32, rows as in ``FIELDS``: x, y, z in metres in the sensor's frame (x forward, y left),
        rcs in dBsm, vx, vy in m/s as measured, vx_comp, vy_comp with the ego motion taken out, the rest are the
        sensor's states. n is 0 where the sensor saw nothing, which nuScenes writes as one point of NaN.
    Raises:
        RadarFileError: see there. FileNotFoundError: there is no such file.
    Source: the layout is PCD 0.7, https://pointclouds.org/documentation/tutorials/pcd_file_format.html.
    """
    content = Path(path).read_bytes()
    record, count, begin = _layout(path, content)
    points = np.frombuffer(content, record, count, begin)
    rows = np.empty((len(FIELDS), count), np.float32)
    for row, name in zip(rows, FIELDS, strict=True):
        row[:] = points[name]
    return rows[:, :0] if count and np.isnan(rows[:, 0]).any() else rows


def check_radar(path: str | os.PathLike[str]) -> None:
    """Compare the header with the file's size; RadarFileError where they disagree. Reads the header alone."""
    with Path(path).open("rb") as file:
        _layout(path, file.read(_HEADER_BYTES), os.fstat(file.fileno()).st_size)


def default_filter(points: np.ndarray) -> np.ndarray:
    """The points that the devkit keeps by default: valid, not "stopped" (dyn_prop 7), Doppler unambiguous.

    Args:
        points: (18, n) as ``read_radar`` returns.
    Returns:
        (18, m), a copy.
    """
    valid = points[FIELDS.index("invalid_state")] == 0
    dyn_prop = points[FIELDS.index("dyn_prop")]
    return points[:, valid & (dyn_prop >= 0) & (dyn_prop <= 6) & (points[FIELDS.index("ambig_state")] == 3)]


def _layout(
    path: str | os.PathLike[str], content: bytes, size: int | None = None
) -> tuple[np.dtype[np.void], int, int]:
    """(record type, number of points, offset of the first) of a file of ``size`` bytes that begins with ``content``."""
    size = len(content) if size is None else size
    if size == 0:
        raise RadarFileError(f"Radar file {path} is empty: copy or download it again.")
    mark = content.find(b"\nDATA ", 0, _HEADER_BYTES)
    end = content.find(b"\n", mark + 1, _HEADER_BYTES)
    if mark < 0 or end < 0:
        raise RadarFileError(f"Radar file {path} has no whole PCD header: it is cut off or no PCD file.")
    header: dict[str, tuple[str, ...]] = {}
    for line in content[:end].decode("ascii", "replace").splitlines():
        key, *values = line.split()[:64] or [""]
        header[key] = tuple(values)
    if header.get("DATA") != ("binary",):
        raise RadarFileError(f"Radar file {path} has DATA {' '.join(header['DATA'])}; nuScenes' files are binary.")
    if header.get("FIELDS") != FIELDS:
        found = " ".join(header.get("FIELDS", ())) or "none"
        raise RadarFileError(f"Radar file {path} has the fields {found}, where nuScenes has {' '.join(FIELDS)}.")
    try:
        record = _record(header["SIZE"], header["TYPE"])
        (count,) = map(int, header["WIDTH"])
        usual = set(header["COUNT"]) == {"1"} and header["HEIGHT"] == ("1",) and count >= 0
    except (KeyError, ValueError, TypeError):
        usual = False
    if not usual:
        raise RadarFileError(f"Radar file {path} has a header with unusable SIZE, TYPE, COUNT, WIDTH or HEIGHT.")
    needed = end + 1 + count * record.itemsize
    if size < needed:  # bytes behind the last point are usual: the devkit even asks for one
        raise RadarFileError(f"Radar file {path} is cut off: {size} bytes, where {count} points need {needed}.")
    return record, count, end + 1


@lru_cache
def _record(sizes: tuple[str, ...], types: tuple[str, ...]) -> np.dtype[np.void]:
    columns = [f"<{_NUMPY_KINDS[kind]}{int(size)}" for size, kind in zip(sizes, types, strict=True)]
    return np.dtype(list(zip(FIELDS, columns, strict=True)))
