"""A tiny data set of random but consistent tables and files in nuScenes' format, for the devkit and for us alike."""

from __future__ import annotations

import json

import cv2
import numpy as np
from pyquaternion import Quaternion
from radar_writer import radar_bytes

CAMERAS = ("CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT", "CAM_FRONT", "CAM_FRONT_LEFT", "CAM_FRONT_RIGHT")
RADARS = ("RADAR_BACK_LEFT", "RADAR_BACK_RIGHT", "RADAR_FRONT", "RADAR_FRONT_LEFT", "RADAR_FRONT_RIGHT")
PERIODS = {"camera": 83_333, "radar": 76_923, "lidar": 50_000}  # microseconds; 12, 13 and 20 Hz
TABLES = (
    *("attribute", "visibility", "category", "instance", "sensor", "calibrated_sensor", "ego_pose", "log", "scene"),
    *("sample", "sample_data", "sample_annotation", "map"),
)
CATEGORIES = ("vehicle.car", "human.pedestrian.adult", "movable_object.barrier", "vehicle.bus.rigid", "animal")
BEGIN = 1_532_402_927_000_000


class RawNuScenes:
    """Writes the folder; ``tables`` can be changed and saved again."""

    def __init__(self, root, version="v1.0-mini", scenes=("scene-0061", "scene-0103"), samples=3, seed=0):
        self.root, self.version, self.random = root, version, np.random.default_rng(seed)
        self.tables = {name: [] for name in TABLES}
        self.count = 0
        self.image = cv2.imencode(".jpg", np.full((9, 16, 3), 99, np.uint8))[1].tobytes()
        self.lidar = np.zeros((10, 5), np.float32).tobytes()
        for name in CATEGORIES:
            self.add("category", name=name, description="")
        self.sensors = {channel: self.sensor(channel) for channel in (*CAMERAS, *RADARS, "LIDAR_TOP")}
        log = self.add("log", logfile="", vehicle="n015", date_captured="2018-07-24", location="singapore-onenorth")
        self.add("map", log_tokens=[log], category="semantic_prior", filename="maps/map.png")
        (root / "maps").mkdir(parents=True)
        cv2.imwrite(str(root / "maps" / "map.png"), np.zeros((8, 8), np.uint8))
        for index, name in enumerate(scenes):
            self.scene(name, BEGIN + index * 100_000_000, samples, log)
        self.save()

    def token(self):
        self.count += 1
        return f"{self.count:032x}"

    def add(self, table, **values):
        values = {"token": self.token(), **values}
        self.tables[table].append(values)
        return values["token"]

    def rotation(self, tilt=0.05):
        axis = self.random.normal(size=3) * [tilt, tilt, 1]
        return Quaternion(axis=axis, angle=self.random.uniform(-3, 3)).elements.tolist()

    def sensor(self, channel):
        modality = {"CAM": "camera", "RADAR": "radar", "LIDAR": "lidar"}[channel.split("_")[0]]
        token = self.add("sensor", channel=channel, modality=modality)
        intrinsic = [[1266.4, 0, 816.3], [0, 1266.4, 491.5], [0, 0, 1]] if modality == "camera" else []
        return modality, self.add(
            "calibrated_sensor",
            sensor_token=token,
            translation=self.random.normal(0, 1, 3).tolist(),
            rotation=self.rotation(tilt=0.6),
            camera_intrinsic=intrinsic,
        )

    def chain(self, table, count):
        """Tokens of rows that name each other in prev and next."""
        tokens = [self.token() for _ in range(count)]
        return [
            {"token": token, "prev": tokens[k - 1] if k else "", "next": tokens[k + 1] if k + 1 < count else ""}
            for k, token in enumerate(tokens)
        ]

    def scene(self, name, begin, count, log):
        scene, samples = self.token(), self.chain("sample", count)
        times = [begin + k * 500_000 + int(self.random.integers(0, 20_000)) for k in range(count)]
        for sample, time in zip(samples, times, strict=True):
            self.tables["sample"].append({**sample, "timestamp": time, "scene_token": scene})
        ends = {"first_sample_token": samples[0]["token"], "last_sample_token": samples[-1]["token"]}
        self.tables["scene"].append(
            {"token": scene, "log_token": log, "nbr_samples": count, "name": name, "description": "", **ends}
        )
        for channel, (modality, sensor) in self.sensors.items():
            self.recording(name, channel, modality, sensor, samples, times)
        for seen in (samples, samples[1:2], samples[:: len(samples) - 1], samples[:-1], samples[1:]):
            self.instance(seen)  # one is seen once, one with a gap

    def recording(self, scene, channel, modality, sensor, samples, times):
        """Sweeps between the key frames at the sensor's rate, and two before the first key frame."""
        moments = [(times[0] - k * PERIODS[modality], 0, False) for k in (2, 1)]
        for k, time in enumerate(times):
            moments.append((time, k, True))
            if k + 1 < len(times):
                between = np.arange(time + PERIODS[modality], times[k + 1] - 20_000, PERIODS[modality])
                moments += [(int(moment), k + 1, False) for moment in between]
        for row, (time, k, is_key) in zip(self.chain("sample_data", len(moments)), moments, strict=True):
            folder = "samples" if is_key else "sweeps"
            suffix = {"camera": "jpg", "radar": "pcd", "lidar": "pcd.bin"}[modality]
            pose = self.add(
                "ego_pose",
                timestamp=time,
                translation=[(time - BEGIN) * 1e-5 + 600, 1600 + self.random.normal(), 0.1 * self.random.normal()],
                rotation=self.rotation(),
            )
            values = {"sample_token": samples[k]["token"], "ego_pose_token": pose, "calibrated_sensor_token": sensor}
            size = (9, 16) if modality == "camera" else (0, 0)
            values |= {"timestamp": time, "is_key_frame": is_key, "height": size[0], "width": size[1]}
            values |= {"fileformat": suffix.split(".")[0], "filename": f"{folder}/{channel}/{scene}__{time}.{suffix}"}
            self.tables["sample_data"].append({**row, **values})
            path = self.root / values["filename"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes({"camera": self.image, "lidar": self.lidar, "radar": self.radar()}[modality])

    def radar(self):
        points = self.random.normal(0, 20, (3, 10)).tolist()
        return radar_bytes([[*p[:3], 1, 7, *p[3:8], 1, 3, 19, 19, 0, 1, 3, 3] for p in points])

    def instance(self, seen):
        """An object annotated in these samples."""
        category = self.tables["category"][int(self.random.integers(len(CATEGORIES)))]["token"]
        rows = self.chain("sample_annotation", len(seen))
        ends = {"first_annotation_token": rows[0]["token"], "last_annotation_token": rows[-1]["token"]}
        instance = self.add("instance", category_token=category, nbr_annotations=len(seen), **ends)
        for row, sample in zip(rows, seen, strict=True):
            self.tables["sample_annotation"].append(
                {
                    **row,
                    "sample_token": sample["token"],
                    "instance_token": instance,
                    "visibility_token": "",
                    "attribute_tokens": [],
                    "translation": self.random.normal([600, 1600, 1], 30).tolist(),
                    "size": self.random.uniform(0.4, 9, 3).tolist(),
                    "rotation": self.rotation(),
                    "num_lidar_pts": int(self.random.integers(0, 3)),
                    "num_radar_pts": int(self.random.integers(0, 2)),
                }
            )

    def save(self):
        folder = self.root / self.version
        folder.mkdir(exist_ok=True)
        for name, rows in self.tables.items():
            (folder / f"{name}.json").write_text(json.dumps(rows, indent=0))

    def rows(self, channel, scene="scene-0061", key_frames=None):
        """Rows of sample_data of a channel and scene, in time."""
        found = [row for row in self.tables["sample_data"] if f"/{channel}/{scene}__" in row["filename"]]
        return [row for row in found if key_frames is None or row["is_key_frame"] == key_frames]
