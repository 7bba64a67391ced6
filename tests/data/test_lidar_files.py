"""read_lidar reads what the devkit reads, and names what is wrong with a file."""

from __future__ import annotations

import numpy as np
import pytest
from nuscenes.utils.data_classes import LidarPointCloud

from racdino.data.lidar_files import LidarFileError, read_lidar


def test_points_are_the_devkits(tmp_path):
    points = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    path = tmp_path / "sweep.pcd.bin"
    points.tofile(path)
    np.testing.assert_array_equal(read_lidar(path), points)
    np.testing.assert_array_equal(read_lidar(path).T[:4], LidarPointCloud.from_file(str(path)).points)


@pytest.mark.parametrize(("content", "message"), [(b"", "is empty"), (b"x" * 1999, "1999 bytes are no multiple of 20")])
def test_what_is_wrong_is_said_with_the_files_name(tmp_path, content, message):
    path = tmp_path / "sweep.pcd.bin"
    path.write_bytes(content)
    with pytest.raises(LidarFileError, match=f"^LiDAR file {path} .*{message}"):
        read_lidar(path)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.bin"):
        read_lidar(tmp_path / "absent.bin")
