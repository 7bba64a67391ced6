"""The infos of one scene, from its tables and files, and what is wrong with either.

The format is `info.py`'s.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from racdino.data.annotations import annotation_arrays
from racdino.data.problems import IMPOSSIBLE, Problem
from racdino.data.quaternions import rotation_matrix
from racdino.data.rows import Rows
from racdino.data.tables import CAMERAS, LIDAR, RADARS, Sample, SampleData, Scene, Tables, key_frames

_MAX_SWEEPS = 5  # cameras at 12 Hz, key frames at 2 Hz: five moments between two key frames


class ScenePart(NamedTuple):
    """``rows``: the row of each info's sample in its table; ``left_out``: samples, images, radar sweeps and boxes."""

    rows: list[int]
    infos: list[dict[str, Any]]
    problems: list[Problem]
    left_out: Counter[str]


def scene_infos(tables: Tables, scene: Scene, root: Path, prefix: str) -> ScenePart:
    """Check every file of ``scene`` that training uses and describe its key frames.

    Args:
        root: the data set's folder. prefix: how infos name it.
    A key frame is left out when one of its images, its LiDAR sweep or one of their poses is not usable or its time is
    not after the one before; a moment between key frames when one of its images is not; a radar sweep and a box by
    themselves.
    """
    return _SceneInfos(tables, scene, root, prefix).part()


class _SceneInfos:
    def __init__(self, tables: Tables, scene: Scene, root: Path, prefix: str) -> None:
        self.tables, self.scene, self.prefix = tables, scene, prefix
        self.rows = Rows(tables, scene, root)
        self.key_frames = key_frames(scene, tables.sensors)
        self.samples = {sample.token: sample for sample in scene.samples}
        self.left_out: Counter[str] = Counter()

    def part(self) -> ScenePart:
        rows, infos = [], []
        before: Sample | None = None  # the last key frame that is not left out
        for index, sample in enumerate(self.scene.samples):
            if not self._usable(sample, before):
                self.left_out["sample"] += 1
                continue
            info = self._info(sample, is_first=index == 0)
            info["prev"] = before.token if before else ""
            infos.append(info)
            rows.append(sample.row)
            before = sample
        self.left_out["radar sweep"] = self.rows.unusable("radar")
        self.left_out["image"] = self.rows.unusable("camera")
        return ScenePart(rows, infos, list(self.rows.problems.values()), self.left_out)

    def _usable(self, sample: Sample, before: Sample | None) -> bool:
        rows = self.key_frames.get(sample.token, {})
        absent = [channel for channel in (*CAMERAS, LIDAR) if channel not in rows]
        if absent:
            self.rows.report(IMPOSSIBLE, f"sample/{sample.token}", f"has no key frame of {', '.join(absent)}")
        usable = [self.rows.usable(row) for row in rows.values()]  # each one, so that every problem is named at once
        needed = all(ok for ok, row in zip(usable, rows.values(), strict=True) if self._channel(row) not in RADARS)
        if before and sample.timestamp <= before.timestamp:
            text = f"is of {sample.timestamp} us, not after the sample before it ({before.timestamp} us)"
            self.rows.report(IMPOSSIBLE, f"sample/{sample.token}", text)
            return False
        return needed and not absent

    def _info(self, sample: Sample, is_first: bool) -> dict[str, Any]:
        rows = self.key_frames[sample.token]
        lidar = rows[LIDAR]
        sensor = self.tables.sensors[lidar.calibrated_sensor_token]
        translation, rotation = self.rows.ego_pose(lidar)
        info: dict[str, Any] = {
            "lidar_path": f"{self.prefix}/{lidar.filename}",
            "token": sample.token,
            "sweeps": [] if is_first else self._sweeps(rows),
            "cams": {},
            "lidar2ego_translation": sensor.translation.tolist(),
            "lidar2ego_rotation": sensor.rotation.tolist(),
            "ego2global_translation": translation.tolist(),
            "ego2global_rotation": rotation.tolist(),
            "timestamp": sample.timestamp,
            "scene_token": self.scene.token,
            "scene_name": self.scene.name,
        }
        R_global_from_lidar, t_global_from_lidar = self._global_pose(lidar)
        for channel in CAMERAS:
            R, t = self._global_pose(rows[channel])
            info["cams"][channel] = self._camera(rows[channel]) | {
                "type": channel,
                "sensor2lidar_rotation": R_global_from_lidar.T @ R,
                "sensor2lidar_translation": R_global_from_lidar.T @ (t - t_global_from_lidar),
            }
        info["rads"] = {channel: self._radar(rows.get(channel)) for channel in RADARS}
        info["radar_history"] = {channel: self._radar_history(rows.get(channel)) for channel in RADARS}
        if "test" not in self.tables.version:
            times = {token: found.timestamp for token, found in self.samples.items()}
            arrays, bad = annotation_arrays(self.scene, sample.token, times, (R_global_from_lidar, t_global_from_lidar),
                                            (rotation, sensor.rotation), self.rows.report)  # fmt: skip
            info |= arrays
            self.left_out["box"] += bad
        return info

    def _sweeps(self, key: dict[str, SampleData]) -> list[dict[str, Any]]:
        cameras: dict[str, SampleData] = {channel: key[channel] for channel in CAMERAS}
        radars: dict[str, SampleData | None] = {channel: key.get(channel) for channel in RADARS}
        sweeps: list[dict[str, Any]] = []
        for _ in range(_MAX_SWEEPS):
            older = {channel: self.rows.before(row) for channel, row in cameras.items()}
            if not all(older.values()):  # a recording begins here: as upstream, its last moment stands in
                sweeps += sweeps[-1:]
                continue
            cameras = {channel: row for channel, row in older.items() if row}
            if any(row.is_key_frame for row in cameras.values()):  # fewer images than usual since then, or none
                break
            radars = {channel: row and self.rows.before(row) for channel, row in radars.items()}
            usable = [self.rows.usable(row) for row in cameras.values()]  # each one, as above
            if all(usable):
                sweep: dict[str, Any] = {channel: self._camera(row) for channel, row in cameras.items()}
                sweeps.append(sweep | {channel: self._radar(row) for channel, row in radars.items()})
        return sweeps

    def _camera(self, row: SampleData) -> dict[str, Any]:
        R, t = self._global_pose(row)
        return {
            "data_path": f"{self.prefix}/{row.filename}",
            "sensor2global_rotation": R.T,
            "sensor2global_translation": t,
            "cam_intrinsic": self.tables.sensors[row.calibrated_sensor_token].intrinsic.copy(),
            "timestamp": row.timestamp,
        }

    def _radar(self, row: SampleData | None) -> dict[str, Any] | None:
        if row is None or not self.rows.usable(row):
            return None
        return row._asdict() | {"sensor_modality": "radar", "channel": self._channel(row)}

    def _radar_history(self, key: SampleData | None) -> dict[str, Any]:
        rows: list[SampleData] = []
        row = key
        while row is not None and (row is key or not row.is_key_frame):
            if self.rows.usable(row):
                rows.append(row)
            row = self.rows.before(row)
        poses = [self.rows.ego_pose(row) for row in rows]
        sensor = self.tables.sensors[key.calibrated_sensor_token] if key else None
        return {
            "filename": [row.filename for row in rows],
            "token": [row.token for row in rows],
            "timestamp": np.array([row.timestamp for row in rows], np.int64),
            "ego2global_translation": np.array([t for t, _ in poses]).reshape(-1, 3),
            "ego2global_rotation": np.array([q for _, q in poses]).reshape(-1, 4),
            "sensor2ego_translation": sensor.translation.copy() if sensor else np.zeros(3),
            "sensor2ego_rotation": sensor.rotation.copy() if sensor else np.array([1.0, 0, 0, 0]),
        }

    def _global_pose(self, row: SampleData) -> tuple[np.ndarray, np.ndarray]:
        """Rotation (3, 3) and translation (3,) of the sensor in global coordinates."""
        translation, rotation = self.rows.ego_pose(row)
        sensor = self.tables.sensors[row.calibrated_sensor_token]
        R = rotation_matrix(rotation)
        return R @ rotation_matrix(sensor.rotation), R @ sensor.translation + translation

    def _channel(self, row: SampleData) -> str:
        return self.tables.sensors[row.calibrated_sensor_token].channel
