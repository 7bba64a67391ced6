"""A small data set in nuScenes' layout with its info file, both written here and from one set of tables.

The tables serve as the devkit's (``get``, ``dataroot``); the infos are built from them with pyquaternion, so neither
the preparation nor the loading under test has a part in it.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
from pyquaternion import Quaternion
from radar_writer import radar_bytes

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
RADARS = ("RADAR_FRONT", "RADAR_FRONT_LEFT", "RADAR_FRONT_RIGHT", "RADAR_BACK_LEFT", "RADAR_BACK_RIGHT")
CAMERA_YAWS = (0, -55, 55, 180, 110, -110)
RADAR_YAWS = (0, 90, -90, 175, -175)
NAMES = ("car", "pedestrian", "truck", "bus", "barrier")
START = 1_532_402_927_000_000  # microseconds
KEY_STEP, CAMERA_STEP, RADAR_STEP = 500_000, 83_333, 71_428


def _pose(translation, rotation):
    return Quaternion(rotation).transformation_matrix + np.pad(np.reshape(translation, (3, 1)), ((0, 1), (3, 0)))


class SmallNuScenes:
    """``key_frames`` samples of one scene, six moments between them; the ego drives and turns.

    Attributes: root, dataroot, infos, info_file, tables (name to token to record).
    """

    def __init__(
        self,
        root,
        key_frames=4,
        width=160,
        height=90,
        radar_points=30,
        lidar_points=2000,
        texture=6,
        quality=92,
        seed=0,
    ):
        self.root, self.dataroot = Path(root), str(root)
        self.size = (height, width)
        self.random = np.random.default_rng(seed)
        self.radar_points, self.texture, self.quality = radar_points, texture, quality
        self.tables = {name: {} for name in ("sample", "sample_data", "ego_pose", "calibrated_sensor")}
        self._calibrate()
        self.key_frames = key_frames
        self._record("LIDAR_TOP", KEY_STEP, 1, 0, lambda: self._lidar(lidar_points))
        for n, channel in enumerate(CAMERAS):
            self._record(channel, CAMERA_STEP, 6, -35_000 + 7_000 * n, self._image)
        for n, channel in enumerate(RADARS):
            self._record(channel, RADAR_STEP, 7, -20_000 + 9_000 * n, self._radar)
        self.infos = [self._info(i) for i in range(key_frames)]
        self.info_file = self.root / "infos.pkl"
        self.save()

    def save(self):
        content = {"infos": self.infos, "metadata": {"version": "v1.0-mini", "racdino": 2}}
        self.info_file.write_bytes(pickle.dumps(content))

    def get(self, table, token):
        return self.tables[table][token]

    def _calibrate(self):
        height, width = self.size
        focal = 1266 / 1600 * width
        intrinsic = [[focal, 0, width * 0.51], [0, focal, height * 0.546], [0, 0, 1]]
        forward = Quaternion(0.5, -0.5, 0.5, -0.5)  # camera axes (right, down, forward) of a camera that looks along x
        for channel, yaw in zip(CAMERAS, CAMERA_YAWS, strict=True):
            turn = Quaternion(axis=[0, 0, 1], degrees=yaw + 0.7) * forward
            self._sensor(channel, turn.rotate([0.02, 0, 0.5]) + np.array([0.9, 0, 1.5]), turn, intrinsic)
        for channel, yaw in zip(RADARS, RADAR_YAWS, strict=True):
            turn = Quaternion(axis=[0, 0, 1], degrees=yaw) * Quaternion(axis=[0, 1, 0], degrees=0.5)
            self._sensor(channel, turn.rotate([2.5, 0, 0]) + np.array([0.8, 0, 0.5]), turn, [])
        self._sensor("LIDAR_TOP", [0.94, 0, 1.84], Quaternion(axis=[0, 0, 1], degrees=-89.6), [])

    def _sensor(self, channel, translation, rotation, intrinsic):
        record = {"translation": list(map(float, translation)), "rotation": list(rotation.unit.elements)}
        self.tables["calibrated_sensor"][channel] = {**record, "token": channel, "camera_intrinsic": intrinsic}

    def _ego(self, timestamp):
        seconds = (timestamp - START) / 1e6
        yaw = Quaternion(axis=[0, 0, 1], radians=0.4 + 0.5 * seconds) * Quaternion(axis=[0, 1, 0], radians=0.01)
        return [1000 + 9 * seconds, 600 + 4 * seconds**2, 0.1 * seconds], list(yaw.elements)

    def _record(self, channel, step, per_key, offset, write):
        table, before = self.tables["sample_data"], ""
        for index in range(per_key * (self.key_frames - 1) + 1):
            key = -(-index // per_key)
            timestamp = START + key * KEY_STEP - (key * per_key - index) * step + offset
            is_key = index % per_key == 0
            suffix, content = write()
            filename = f"{'samples' if is_key else 'sweeps'}/{channel}/scene__{channel}__{timestamp}{suffix}"
            path = self.root / filename
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            token = f"{channel}-{index}"
            translation, rotation = self._ego(timestamp)
            self.tables["ego_pose"][token] = {"translation": translation, "rotation": rotation}
            record = {"token": token, "sample_token": f"sample-{key}", "ego_pose_token": token, "filename": filename}
            record |= {"calibrated_sensor_token": channel, "timestamp": timestamp, "is_key_frame": is_key}
            table[token] = {**record, "channel": channel, "prev": before, "next": ""}
            if before:
                table[before]["next"] = token
            before = token
            if is_key:
                empty = {"token": f"sample-{key}", "timestamp": START + key * KEY_STEP, "data": {}}
                self.tables["sample"].setdefault(f"sample-{key}", empty)["data"][channel] = token

    def _image(self):
        height, width = self.size
        small = self.random.integers(
            0, 256, (max(height // self.texture, 2), max(width // self.texture, 2), 3), np.uint8
        )
        image = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        return ".jpg", cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self.quality])[1].tobytes()

    def _radar(self):
        n = self.radar_points
        points = np.zeros((n, 18))
        points[:, 0] = self.random.uniform(0.2, 90, n)
        points[:, 1] = self.random.uniform(-0.6, 0.6, n) * points[:, 0]
        points[:, 3] = self.random.integers(0, 8, n)  # dyn_prop; 7 is filtered
        points[:, 4] = np.arange(n)
        points[:, 5] = self.random.uniform(-5, 30, n)
        points[:, 6:10] = self.random.normal(0, 5, (n, 4))
        points[:, 11] = self.random.choice([3, 3, 3, 1], n)  # ambig_state; 1 is filtered
        points[:, 14] = self.random.choice([0, 0, 0, 4], n)  # invalid_state; 4 is filtered
        points[0, :2] = 0.5, 0.5  # too close to the sensor
        return ".pcd", radar_bytes([[*row[:3], *map(int, row[3:5]), *row[5:10], *map(int, row[10:])] for row in points])

    def _lidar(self, n):
        distance, angle = self.random.uniform(2, 75, n), self.random.uniform(-np.pi, np.pi, n)
        points = np.zeros((n, 5), np.float32)
        points[:, 0], points[:, 1] = distance * np.cos(angle), distance * np.sin(angle)
        points[:, 2] = self.random.uniform(-1.8, 3, n)
        return ".pcd.bin", points.tobytes()

    def sensor_pose(self, record):
        """(4, 4) float64 from the sensor to global coordinates, at the record's time."""
        ego = self.get("ego_pose", record["ego_pose_token"])
        sensor = self.get("calibrated_sensor", record["calibrated_sensor_token"])
        return _pose(ego["translation"], ego["rotation"]) @ _pose(sensor["translation"], sensor["rotation"])

    def _camera(self, record):
        pose = self.sensor_pose(record)
        intrinsic = self.get("calibrated_sensor", record["calibrated_sensor_token"])["camera_intrinsic"]
        return {
            "data_path": f"data/nuscenes/{record['filename']}",
            "sensor2global_rotation": pose[:3, :3].T,
            "sensor2global_translation": pose[:3, 3],
            "cam_intrinsic": np.array(intrinsic),
            "timestamp": record["timestamp"],
        }

    def _info(self, index):
        sample = self.tables["sample"][f"sample-{index}"]
        data = {channel: self.get("sample_data", token) for channel, token in sample["data"].items()}
        lidar, ego = data["LIDAR_TOP"], self.get("ego_pose", data["LIDAR_TOP"]["ego_pose_token"])
        sensor = self.get("calibrated_sensor", "LIDAR_TOP")
        boxes = 12
        distance, angle = self.random.uniform(5, 45, boxes), self.random.uniform(-np.pi, np.pi, boxes)
        places = [distance * np.cos(angle), distance * np.sin(angle), self.random.uniform(-1.5, 0, boxes)]
        sizes = self.random.uniform(0.6, 5, (3, boxes))
        sweeps, records = [], data
        for _ in range(5 if index else 0):
            records = {c: self.get("sample_data", records[c]["prev"]) for c in (*CAMERAS, *RADARS)}
            cameras = {channel: self._camera(records[channel]) for channel in CAMERAS}
            sweeps.append({**cameras, **{channel: records[channel] for channel in RADARS}})
        return {
            "token": sample["token"],
            "timestamp": sample["timestamp"],
            "scene_token": "scene",
            "scene_name": "scene-0061",
            "prev": f"sample-{index - 1}" if index else "",
            "lidar_path": f"data/nuscenes/{lidar['filename']}",
            "lidar2ego_translation": sensor["translation"],
            "lidar2ego_rotation": sensor["rotation"],
            "ego2global_translation": ego["translation"],
            "ego2global_rotation": ego["rotation"],
            "cams": {channel: self._camera(data[channel]) for channel in CAMERAS},
            "rads": {channel: data[channel] for channel in RADARS},
            "sweeps": sweeps,
            "radar_history": {channel: self._history(data[channel]) for channel in RADARS},
            "gt_boxes": np.stack([*places, *sizes, self.random.uniform(-np.pi, np.pi, boxes)], axis=1),
            "gt_names": np.array([NAMES[k % len(NAMES)] for k in range(boxes)]),
            "gt_velocity": self.random.normal(0, 4, (boxes, 2)),
            "num_lidar_pts": np.full(boxes, 5),
            "num_radar_pts": np.full(boxes, 1),
            "valid_flag": np.ones(boxes, bool),
        }

    def _history(self, record):
        records = [record]
        while record["prev"] and not self.get("sample_data", record["prev"])["is_key_frame"]:
            record = self.get("sample_data", record["prev"])
            records.append(record)
        poses = [self.get("ego_pose", record["ego_pose_token"]) for record in records]
        sensor = self.get("calibrated_sensor", record["calibrated_sensor_token"])
        return {
            "filename": [record["filename"] for record in records],
            "token": [record["token"] for record in records],
            "timestamp": np.array([record["timestamp"] for record in records]),
            "ego2global_translation": np.array([pose["translation"] for pose in poses]),
            "ego2global_rotation": np.array([pose["rotation"] for pose in poses]),
            "sensor2ego_translation": np.array(sensor["translation"]),
            "sensor2ego_rotation": np.array(sensor["rotation"]),
        }
