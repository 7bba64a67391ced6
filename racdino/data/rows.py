"""Which rows of sample_data can be used: file, pose, calibration and time, each checked once."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from racdino.data.lidar_files import LidarFileError, check_lidar
from racdino.data.problems import ABSENT, DAMAGED, IMPOSSIBLE, Problem
from racdino.data.quaternions import is_rotation
from racdino.data.radar_files import RadarFileError, check_radar
from racdino.data.tables import SampleData, Scene, Sensor, Tables


class Rows:
    """The rows of one scene and what is wrong with them; ``problems`` by kind and name."""

    def __init__(self, tables: Tables, scene: Scene, root: Path) -> None:
        self.tables, self.scene, self.root = tables, scene, root
        self.problems: dict[tuple[str, str], Problem] = {}
        self._usable: dict[str, bool] = {}

    def report(self, kind: str, name: str, text: str) -> None:
        """Note a problem once; ``text`` goes on where the name ends."""
        self.problems.setdefault((kind, name), Problem(kind, name, f"{name} {text}."))

    def unusable(self, modality: str) -> int:
        """How many rows of a modality were asked for and are not usable."""
        data, sensors = self.scene.data, self.tables.sensors
        bad = (data[token] for token, usable in self._usable.items() if not usable)
        return sum(sensors[row.calibrated_sensor_token].modality == modality for row in bad)

    def usable(self, row: SampleData) -> bool:
        """Whether file, ego pose and calibration of ``row`` are there and possible."""
        if row.token not in self._usable:
            checks = [self._file_is_whole(row), self._pose_is_possible(row), self._sensor_is_possible(row)]
            self._usable[row.token] = all(checks)
        return self._usable[row.token]

    def before(self, row: SampleData) -> SampleData | None:
        """The row that ``prev`` names; None at the beginning of the recording or where ``prev`` cannot be right."""
        if not row.prev:
            return None
        older = self.scene.data.get(row.prev)
        if older is None:
            self.report(
                IMPOSSIBLE, f"sample_data/{row.token}", f"names {row.prev} as the row before it, which is not there"
            )
        elif older.timestamp >= row.timestamp:
            text = f"is of {row.timestamp} us, not after the row before it ({older.timestamp} us)"
            self.report(IMPOSSIBLE, f"sample_data/{row.token}", text)
            return None
        return older

    def ego_pose(self, row: SampleData) -> tuple[np.ndarray, np.ndarray]:
        """Translation (3,) and rotation (4,) of ego in global at the time of a usable ``row``."""
        pose = self.tables.ego_pose(row.ego_pose_token)
        assert pose is not None  # `usable` has looked
        return pose

    def _file_is_whole(self, row: SampleData) -> bool:
        path = self.root / row.filename
        try:
            {"camera": check_image, "radar": check_radar, "lidar": check_lidar}[self._sensor(row).modality](path)
        except (FileNotFoundError, NotADirectoryError):
            self.report(ABSENT, row.filename, "is not there")
        except (ImageFileError, RadarFileError, LidarFileError) as error:
            self.report(DAMAGED, row.filename, f"is damaged: {str(error).rstrip('.')}")
        except OSError as error:
            self.report(DAMAGED, row.filename, f"cannot be read: {error.strerror}")
        else:
            return True
        return False

    def _pose_is_possible(self, row: SampleData) -> bool:
        pose = self.tables.ego_pose(row.ego_pose_token)
        name = f"ego_pose/{row.ego_pose_token}"
        if pose is None:
            self.report(IMPOSSIBLE, name, f"is not there, and {row.filename} needs it")
            return False
        return self._is_rigid(name, *pose)

    def _sensor_is_possible(self, row: SampleData) -> bool:
        sensor = self._sensor(row)
        name = f"calibrated_sensor/{row.calibrated_sensor_token}"
        if sensor.modality == "camera" and not _is_intrinsic(sensor.intrinsic):
            self.report(IMPOSSIBLE, name, f"of {sensor.channel} has an intrinsic matrix that no camera has")
            return False
        return self._is_rigid(name, sensor.translation, sensor.rotation)

    def _is_rigid(self, name: str, translation: np.ndarray, rotation: np.ndarray) -> bool:
        if translation.shape != (3,) or not np.isfinite(translation).all():
            self.report(IMPOSSIBLE, name, f"has the translation {translation.tolist()}")
        elif rotation.shape != (4,) or not is_rotation(rotation):
            self.report(IMPOSSIBLE, name, f"has the rotation {rotation.tolist()}, which is no unit quaternion")
        else:
            return True
        return False

    def _sensor(self, row: SampleData) -> Sensor:
        return self.tables.sensors[row.calibrated_sensor_token]


class ImageFileError(ValueError):
    """The file is empty, cut off or no JPEG."""


def check_image(path: Path) -> None:
    """Raise ImageFileError unless the file begins and ends as a JPEG does. Reads its two ends."""
    with path.open("rb") as file:
        begin = file.read(2)
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - 16))
        end = file.read().rstrip(b"\0")
    if not begin:
        raise ImageFileError("it is empty")
    if begin != b"\xff\xd8":
        raise ImageFileError("it is no JPEG")
    if not end.endswith(b"\xff\xd9"):
        raise ImageFileError(f"it is cut off after {size} bytes")


def _is_intrinsic(matrix: np.ndarray) -> bool:
    shaped = matrix.shape == (3, 3) and bool(np.isfinite(matrix).all())
    return shaped and matrix[0, 0] > 0 and matrix[1, 1] > 0 and matrix[2].tolist() == [0, 0, 1]
