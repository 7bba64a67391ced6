"""nuScenes' JSON tables, read record by record and kept by scene: what info files need and nothing else.

The devkit's `NuScenes` object keeps every record of every table as a dict. Here the large tables (2.6 million rows of
sample_data and of ego_pose in v1.0-trainval) are decoded as a stream, LiDAR sweeps between key frames and unused poses
are dropped, and what stays is compact.
"""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from racdino.data.records import Progress, TableError, read_records

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
RADARS = ("RADAR_FRONT", "RADAR_FRONT_LEFT", "RADAR_FRONT_RIGHT", "RADAR_BACK_LEFT", "RADAR_BACK_RIGHT")
LIDAR = "LIDAR_TOP"
_ANNOTATED = ("category", "instance", "sample_annotation")


class Sensor(NamedTuple):
    """One row of calibrated_sensor with its sensor; the pose is that of the sensor in the ego frame."""

    channel: str
    modality: str
    translation: np.ndarray  # (3,)
    rotation: np.ndarray  # (4,)
    intrinsic: np.ndarray  # (3, 3), or (0,) where there is none


class SampleData(NamedTuple):
    """One row of sample_data, all its columns."""

    token: str
    sample_token: str
    ego_pose_token: str
    calibrated_sensor_token: str
    timestamp: int
    fileformat: str
    is_key_frame: bool
    height: int
    width: int
    filename: str
    prev: str
    next: str


class Annotation(NamedTuple):
    """One row of sample_annotation; ``numbers`` are translation (3), size w l h (3) and rotation (4)."""

    token: str
    sample_token: str
    category: str
    prev: str
    next: str
    num_lidar_pts: int
    num_radar_pts: int
    numbers: array[float]


class Sample(NamedTuple):
    """One row of sample; ``row`` is its place in the table."""

    token: str
    timestamp: int
    row: int


@dataclass
class Scene:
    """What the tables say about one scene; samples in their order in time."""

    token: str
    name: str
    samples: list[Sample] = field(default_factory=list)
    data: dict[str, SampleData] = field(default_factory=dict)
    annotations: dict[str, Annotation] = field(default_factory=dict)


@dataclass
class Tables:
    """The tables of one version. ``digest`` names their content."""

    version: str
    digest: str
    scenes: list[Scene]
    sensors: dict[str, Sensor]
    _pose_rows: dict[str, int]
    _poses: array[float]

    def ego_pose(self, token: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Translation (3,) and rotation (4,) of ego in global; None where the table has no such row."""
        row = self._pose_rows.get(token, -1)
        if row < 0:
            return None
        values = np.frombuffer(self._poses, np.float64, 7, row * 56)
        return values[:3], values[3:]


def read_tables(root: Path, version: str, progress: Progress) -> Tables:
    """The tables in ``root/version``.

    Raises:
        TableError: a table is absent, is no list of records, or refers to rows that are not there.
    """
    return _Reader(root, version, progress).read()


class _Reader:
    def __init__(self, root: Path, version: str, progress: Progress) -> None:
        self.folder, self.version, self.progress = root / version, version, progress
        self.hash = hashlib.sha256(version.encode())

    def each(self, table: str, use: Callable[[dict[str, Any]], None]) -> None:
        path = self.folder / f"{table}.json"
        row = -1
        try:
            for record in read_records(path, self.hash, self.progress):
                row += 1
                use(record)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            if isinstance(error, TableError):
                raise
            detail = f"{type(error).__name__}: {error}"
            raise TableError(f"Row {row} of table {path} is not as nuScenes writes it ({detail}).") from error

    def read(self) -> Tables:
        scenes, by_sample = self.scenes()
        sensors = self.calibrated_sensors()
        self.sample_data(by_sample, sensors)
        pose_rows, poses = self.ego_poses(scenes)
        if "test" not in self.version:
            self.annotations(by_sample)
        return Tables(self.version, self.hash.hexdigest(), scenes, sensors, pose_rows, poses)

    def scenes(self) -> tuple[list[Scene], dict[str, Scene]]:
        scenes: dict[str, Scene] = {}
        first: dict[str, str] = {}
        samples: dict[str, tuple[Sample, str]] = {}
        by_sample: dict[str, Scene] = {}

        def scene(record: dict[str, Any]) -> None:
            scenes[record["token"]] = Scene(record["token"], record["name"])
            first[record["token"]] = record["first_sample_token"]

        def sample(record: dict[str, Any]) -> None:
            token = sys.intern(record["token"])
            by_sample[token] = scenes[record["scene_token"]]
            samples[token] = Sample(token, int(record["timestamp"]), len(samples)), record["next"]

        self.each("scene", scene)
        self.each("sample", sample)
        for token, one in scenes.items():
            here = first[token]
            while here in samples:
                found, here = samples.pop(here)
                one.samples.append(found)
            if here:
                raise TableError(
                    f"{self.folder / 'sample.json'}: the samples of {one.name} lead to {here}, which is not there."
                )
        if samples:
            token = next(iter(samples))
            raise TableError(
                f"{self.folder / 'sample.json'}: {len(samples)} samples, {token} for one, belong to no scene's chain."
            )
        return list(scenes.values()), by_sample

    def calibrated_sensors(self) -> dict[str, Sensor]:
        kinds: dict[str, tuple[str, str]] = {}
        sensors: dict[str, Sensor] = {}

        def sensor(record: dict[str, Any]) -> None:
            kinds[record["token"]] = record["channel"], record["modality"]

        def calibrated(record: dict[str, Any]) -> None:
            numbers = (record[key] for key in ("translation", "rotation", "camera_intrinsic"))
            sensors[record["token"]] = Sensor(
                *kinds[record["sensor_token"]], *(np.array(n, np.float64) for n in numbers)
            )

        self.each("sensor", sensor)
        self.each("calibrated_sensor", calibrated)
        return sensors

    def sample_data(self, by_sample: dict[str, Scene], sensors: dict[str, Sensor]) -> None:
        wanted = {*CAMERAS, *RADARS}

        def data(record: dict[str, Any]) -> None:
            channel = sensors[record["calibrated_sensor_token"]].channel
            if channel in wanted or (channel == LIDAR and record["is_key_frame"]):
                row = SampleData(*(_interned(record[name]) for name in SampleData._fields))
                by_sample[row.sample_token].data[row.token] = row

        self.each("sample_data", data)

    def ego_poses(self, scenes: list[Scene]) -> tuple[dict[str, int], array[float]]:
        rows = {row.ego_pose_token: -1 for scene in scenes for row in scene.data.values()}
        poses = array("d")

        def pose(record: dict[str, Any]) -> None:
            if record["token"] in rows:
                rows[record["token"]] = len(poses) // 7
                x, y, z = record["translation"]
                poses.extend((x, y, z, *_four(record["rotation"])))

        self.each("ego_pose", pose)
        return rows, poses

    def annotations(self, by_sample: dict[str, Scene]) -> None:
        categories: dict[str, str] = {}
        instances: dict[str, str] = {}

        def category(record: dict[str, Any]) -> None:
            categories[record["token"]] = record["name"]

        def instance(record: dict[str, Any]) -> None:
            instances[record["token"]] = categories[record["category_token"]]

        def annotation(record: dict[str, Any]) -> None:
            intern = sys.intern
            row = Annotation(
                intern(record["token"]),
                intern(record["sample_token"]),
                instances[record["instance_token"]],
                intern(record["prev"]),
                intern(record["next"]),
                int(record["num_lidar_pts"]),
                int(record["num_radar_pts"]),
                array("d", (*_three(record["translation"]), *_three(record["size"]), *_four(record["rotation"]))),
            )
            by_sample[row.sample_token].annotations[row.token] = row

        for table, use in zip(_ANNOTATED, (category, instance, annotation), strict=True):
            self.each(table, use)


def key_frames(scene: Scene, sensors: dict[str, Sensor]) -> dict[str, dict[str, SampleData]]:
    """For each sample's token, its key-frame row of every channel."""
    found: dict[str, dict[str, SampleData]] = defaultdict(dict)
    for row in scene.data.values():
        if row.is_key_frame:
            found[row.sample_token][sensors[row.calibrated_sensor_token].channel] = row
    return found


def _interned(value: Any) -> Any:
    return sys.intern(value) if isinstance(value, str) else value


def _three(values: list[float]) -> tuple[float, float, float]:
    x, y, z = values
    return x, y, z


def _four(values: list[float]) -> tuple[float, float, float, float]:
    w, x, y, z = values
    return w, x, y, z
