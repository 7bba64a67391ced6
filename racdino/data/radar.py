"""Radar points of several sweeps and sensors in one LiDAR frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np

from racdino.data.history import Infos, Moment, radar_sweeps
from racdino.data.poses import lidar_from_global
from racdino.data.quaternions import rotation_matrix
from racdino.data.radar_files import FIELDS, default_filter, read_radar
from racdino.data.tables import RADARS

COLUMNS = 7  # x, y, z = 0, RCS, vx, vy, time lag
RCS_RANGE = (-64.0, 64.0)  # dBsm: what the sensor's message can hold; a value outside is damage
_TOO_CLOSE = 1.0  # metres, in x and in y: returns of the own bumper
_KEPT = [FIELDS.index(name) for name in ("x", "y", "z", "rcs", "vx_comp", "vy_comp")]


@lru_cache(maxsize=4096)  # about 10 MB; neighbouring frames and samples share most of their sweeps
def sensor_points(path: str) -> tuple[np.ndarray, int]:
    """((n, 6) x, y, z, RCS, vx, vy in the sensor's frame, number left out as impossible) of one sweep.

    Kept are the points of the devkit's default filter that are not within 1 m of the sensor in both x and y. Left out
    as impossible are those with a value that is not finite or an RCS outside -64 to 64 dBsm.
    """
    points = default_filter(read_radar(path))[_KEPT].T.astype(np.float64)
    points = points[~(np.abs(points[:, :2]) < _TOO_CLOSE).all(axis=1)]
    possible = np.isfinite(points).all(axis=1) & (points[:, 3] >= RCS_RANGE[0]) & (points[:, 3] < RCS_RANGE[1])
    points = points[possible]
    points.setflags(write=False)
    return points, int((~possible).sum())


def accumulate(
    current: dict[str, Any],
    moment: Moment,
    infos: Infos,
    locate: Callable[[str], str],
    num_sweeps: int = 5,
    legacy_radar_history: bool = False,
    legacy_radar_velocity: bool = False,
) -> tuple[np.ndarray, int]:
    """The points of all radars at ``moment``, each from ``num_sweeps`` sweeps, in the LiDAR frame of ``current``.

    Args:
        current: info of the sample's key frame. moment: one of its past moments, or its own.
        locate: the path of a file that the info names.
        legacy_radar_history: upstream's: begin at the key frame that the moment's sweep belongs to, not at the sweep.
        legacy_radar_velocity: upstream's: rotate velocities by the calibrations alone, not by the ego's turn since.
    Returns:
        ((n, 7) float32: x, y in metres, z = 0, RCS in dBsm, vx, vy in m/s over ground, time lag in seconds behind the
        current LiDAR sweep; number of points left out as impossible). n may be 0.
    Raises:
        racdino.data.radar_files.RadarFileError, FileNotFoundError: a file is damaged or missing; they name it.
        ValueError: a pose is not finite.
    Source: the nuScenes devkit's ``RadarPointCloud.from_file_multisweep``, whose filters and frames these are.
    """
    sweeps = [
        sweep
        for channel in RADARS
        for sweep in islice(sweeps_at(moment, infos, channel, legacy_radar_history), num_sweeps)
    ]
    if not sweeps:
        return np.zeros((0, COLUMNS), np.float32), 0
    files = [history["filename"][k] for history, k in sweeps]
    T_lidar_from_sensor, turns = _poses(current, sweeps, legacy_radar_velocity)
    for pose, name in zip(T_lidar_from_sensor, files, strict=True):
        if not np.isfinite(pose).all():
            raise ValueError(f"the pose of {name} is not finite, run `racdino data prepare` again")
    read = [sensor_points(locate(name)) for name in files]
    counts = [len(points) for points, _ in read]
    points = np.concatenate([points for points, _ in read])
    pose, turn = (np.repeat(matrices[:, :2, :3], counts, axis=0) for matrices in (T_lidar_from_sensor, turns))
    lags = [1e-6 * (int(current["timestamp"]) - int(history["timestamp"][k])) for history, k in sweeps]
    moved = np.zeros((len(points), COLUMNS), np.float32)
    moved[:, :2] = np.einsum("nij,nj->ni", pose, points[:, :3]) + np.repeat(T_lidar_from_sensor[:, :2, 3], counts, 0)
    moved[:, 3] = points[:, 3]
    moved[:, 4:6] = np.einsum("nij,nj->ni", turn[:, :, :2], points[:, 4:6])
    moved[:, 6] = np.repeat(lags, counts)
    return moved, sum(impossible for _, impossible in read)


def _poses(
    current: dict[str, Any], sweeps: list[tuple[dict[str, Any], int]], legacy_radar_velocity: bool
) -> tuple[np.ndarray, np.ndarray]:
    """``T_lidar_from_sensor`` (m, 4, 4) of every sweep, and what turns its velocities, as (m, 3 or more, 3 or more)."""
    T_global_from_ego, T_ego_from_sensor = np.zeros((2, len(sweeps), 4, 4))
    T_global_from_ego[:, 3, 3] = T_ego_from_sensor[:, 3, 3] = 1
    T_global_from_ego[:, :3, :3] = rotation_matrix(np.array([h["ego2global_rotation"][k] for h, k in sweeps]))
    T_global_from_ego[:, :3, 3] = [h["ego2global_translation"][k] for h, k in sweeps]
    T_ego_from_sensor[:, :3, :3] = rotation_matrix(np.array([h["sensor2ego_rotation"] for h, _ in sweeps]))
    T_ego_from_sensor[:, :3, 3] = [h["sensor2ego_translation"] for h, _ in sweeps]
    T_lidar_from_sensor = lidar_from_global(current) @ T_global_from_ego @ T_ego_from_sensor
    if not legacy_radar_velocity:
        return T_lidar_from_sensor, T_lidar_from_sensor
    return T_lidar_from_sensor, rotation_matrix(current["lidar2ego_rotation"]).T @ T_ego_from_sensor[:, :3, :3]


def sweeps_at(
    moment: Moment, infos: Infos, channel: str, legacy_radar_history: bool = False
) -> Iterator[tuple[dict[str, Any], int]]:
    """What ``radar_sweeps`` yields from ``moment`` on, going back; the flag is that of ``accumulate``.

    A moment without a record of this radar begins at the time of its last image.
    """
    record = moment.sensors.get(channel)
    if legacy_radar_history:
        info = infos.get(record["sample_token"], moment.info) if record else moment.info
        return radar_sweeps(info, None, infos, channel)
    if record:
        return radar_sweeps(moment.info, record["timestamp"], infos, channel)
    images = [sensor["timestamp"] for name, sensor in moment.sensors.items() if name.startswith("CAM_") and sensor]
    return radar_sweeps(moment.info, max(images, default=None), infos, channel)
