"""nuScenes' records of one scene, table by table."""

from __future__ import annotations

from datetime import datetime, timezone
from itertools import pairwise
from typing import Any

from racdino.synthetic.calibration import CAMERAS, Mount
from racdino.synthetic.geometry import quaternion
from racdino.synthetic.parameters import Parameters
from racdino.synthetic.schedule import KEY_INTERVAL, Shot
from racdino.synthetic.seeding import token
from racdino.synthetic.world import World

_FIRST_SECOND, _SECONDS_APART = 1_532_402_927, 1_000
_EXTENSION = {"camera": "jpg", "radar": "pcd", "lidar": "pcd.bin"}


class SceneRecords:
    """Collects the records of ``world``; ``index`` numbers the scenes of a data set."""

    def __init__(self, world: World, index: int, mounts: dict[str, Mount], parameters: Parameters) -> None:
        self.world, self.mounts, self.seed = world, mounts, parameters.seed
        self.start = (_FIRST_SECOND + index * _SECONDS_APART) * 1_000_000
        self.samples = [self.token("sample", i) for i in range(parameters.samples_per_scene)]
        self._image_size = parameters.image_size
        self.logfile = f"synthetic-{world.name}"
        self.tables: dict[str, list[dict[str, Any]]] = {
            "log": [
                {
                    "token": self.token("log"),
                    "logfile": self.logfile,
                    "vehicle": "synthetic",
                    "date_captured": datetime.fromtimestamp(self.start / 1e6, timezone.utc).strftime("%Y-%m-%d"),
                    "location": world.location,
                }
            ],
            "scene": [
                {
                    "token": self.token("scene"),
                    "log_token": self.token("log"),
                    "nbr_samples": len(self.samples),
                    "first_sample_token": self.samples[0],
                    "last_sample_token": self.samples[-1],
                    "name": world.name,
                    "description": "SYNTHETIC, rendered by racdino: a ring road with traffic, no recording of nuScenes",
                }
            ],
            "sample": [
                {
                    "token": sample,
                    "timestamp": self.start + i * KEY_INTERVAL,
                    "prev": self.samples[i - 1] if i else "",
                    "next": self.samples[i + 1] if i + 1 < len(self.samples) else "",
                    "scene_token": self.token("scene"),
                }
                for i, sample in enumerate(self.samples)
            ],
            "calibrated_sensor": [self._calibration(mount) for mount in mounts.values()],
            "sample_data": [],
            "ego_pose": [],
            "instance": [],
            "sample_annotation": [],
        }

    def token(self, *names: object) -> str:
        return token(self.seed, self.world.name, *names)

    def add(self, channel: str, shot: Shot) -> str:
        """The records of one measurement; the name of its file below the data set's folder."""
        mount, timestamp = self.mounts[channel], self.start + shot.time
        folder = "samples" if shot.is_key else "sweeps"
        filename = f"{folder}/{channel}/{self.logfile}__{channel}__{timestamp}.{_EXTENSION[mount.modality]}"
        width, height = self._image_size if channel in CAMERAS else (0, 0)
        pose = self.world.ego_pose(shot.time * 1e-6)
        name = self.token(channel, timestamp)
        self.tables["ego_pose"].append(
            {
                "token": name,
                "timestamp": timestamp,
                "rotation": quaternion(pose[:3, :3]),
                "translation": pose[:3, 3].tolist(),
            }
        )
        self.tables["sample_data"].append(
            {
                "token": name,
                "sample_token": self.samples[shot.sample],
                "ego_pose_token": name,
                "calibrated_sensor_token": self.token("calibrated_sensor", channel),
                "timestamp": timestamp,
                "fileformat": "jpg" if channel in CAMERAS else "pcd",
                "is_key_frame": shot.is_key,
                "height": height,
                "width": width,
                "filename": filename,
                "prev": "",
                "next": "",
            }
        )
        return filename

    def link(self, channel: str) -> None:
        """Chain the measurements of ``channel``, which were added in the order of time."""
        sensor = self.token("calibrated_sensor", channel)
        chain = [record for record in self.tables["sample_data"] if record["calibrated_sensor_token"] == sensor]
        for first, second in pairwise(chain):
            first["next"], second["prev"] = second["token"], first["token"]

    def _calibration(self, mount: Mount) -> dict[str, Any]:
        return {
            "token": self.token("calibrated_sensor", mount.channel),
            "sensor_token": token(self.seed, "sensor", mount.channel),
            "translation": mount.T_ego_from_sensor[:3, 3].tolist(),
            "rotation": quaternion(mount.T_ego_from_sensor[:3, :3]),
            "camera_intrinsic": [] if mount.intrinsic is None else mount.intrinsic.tolist(),
        }
