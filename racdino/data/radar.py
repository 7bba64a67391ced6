"""Radar points of several sweeps and sensors in one LiDAR frame."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np

from racdino.data.history import Infos, Moment, radar_sweeps
from racdino.data.poses import lidar_from_global, rigid
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
    T_lidar_from_global = lidar_from_global(current)
    R_lidar_from_ego = rigid(current["lidar2ego_rotation"], (0, 0, 0))[:3, :3].T
    gathered = [np.zeros((0, COLUMNS))]
    left_out = 0
    for channel in RADARS:
        info, latest = _begin(moment, infos, channel, legacy_radar_history)
        for history, k in islice(radar_sweeps(info, infos, channel, latest), num_sweeps):
            points, impossible = sensor_points(locate(history["filename"][k]))
            left_out += impossible
            T_ego_from_sensor = rigid(history["sensor2ego_rotation"], history["sensor2ego_translation"])
            T_global_from_ego = rigid(history["ego2global_rotation"][k], history["ego2global_translation"][k])
            T_lidar_from_sensor = T_lidar_from_global @ T_global_from_ego @ T_ego_from_sensor
            if not np.isfinite(T_lidar_from_sensor).all():
                raise ValueError(
                    f"the pose of {history['filename'][k]} is not finite: run `racdino data prepare` again"
                )
            rotation = T_lidar_from_sensor[:3, :3]
            turned = R_lidar_from_ego @ T_ego_from_sensor[:3, :3] if legacy_radar_velocity else rotation
            moved = np.zeros((len(points), COLUMNS))
            moved[:, :2] = points[:, :3] @ rotation[:2].T + T_lidar_from_sensor[:2, 3]
            moved[:, 3] = points[:, 3]
            moved[:, 4:6] = points[:, 4:6] @ turned[:2, :2].T
            moved[:, 6] = 1e-6 * (int(current["timestamp"]) - int(history["timestamp"][k]))
            gathered.append(moved)
    return np.concatenate(gathered).astype(np.float32), left_out


def _begin(moment: Moment, infos: Infos, channel: str, legacy: bool) -> tuple[dict[str, Any], int | None]:
    """(key frame, time in microseconds) at which the sweeps of ``channel`` begin, going back."""
    record = moment.sensors.get(channel)
    if legacy:
        return (infos.get(record["sample_token"], moment.info) if record else moment.info), None
    if record:
        return moment.info, record["timestamp"]
    cameras = [sensor["timestamp"] for name, sensor in moment.sensors.items() if name.startswith("CAM_") and sensor]
    return moment.info, max(cameras, default=None)
