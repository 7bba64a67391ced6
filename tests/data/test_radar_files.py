"""read_radar reads what the devkit reads, and names what is wrong with a file."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from nuscenes.utils.data_classes import RadarPointCloud
from radar_writer import FIELDS, HEADER, POINT, radar_bytes

from racdino.data.radar_files import RadarFileError, check_radar, default_filter, read_radar

EVERYTHING = {"invalid_states": range(-128, 128), "dynprop_states": range(-128, 128), "ambig_states": range(-128, 128)}


def random_points(count, seed=0):
    random = np.random.default_rng(seed)
    points = []
    for _ in range(count):
        metric = random.normal(0, 40, 3).tolist()
        states = random.integers(0, [2, 5, 20, 20, 18, 8, 20, 20]).tolist()
        velocities = random.normal(0, 10, 5).tolist()
        points.append([*metric, int(random.integers(0, 8)), int(random.integers(-9, 9999)), *velocities, *states])
        points[-1][14] = int(random.choice([0, 0, 4, 17]))
        points[-1][11] = int(random.choice([3, 3, 2]))
    return points


def write(folder, content):
    path = folder / "sweep.pcd"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("count", [1, 2, 125, 700])
def test_every_field_is_what_the_devkit_reads(tmp_path, count):
    path = write(tmp_path, radar_bytes(random_points(count)))
    points = read_radar(path)
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points, RadarPointCloud.from_file(str(path), **EVERYTHING).points.astype(np.float32))
    check_radar(path)


def test_the_default_filter_keeps_what_the_devkit_keeps(tmp_path):
    path = write(tmp_path, radar_bytes(random_points(2000)))
    RadarPointCloud.default_filters()
    kept = default_filter(read_radar(path))
    assert 100 < kept.shape[1] < 2000
    np.testing.assert_array_equal(kept, RadarPointCloud.from_file(str(path)).points.astype(np.float32))


def test_a_first_point_of_nan_is_an_empty_sweep_as_in_the_devkit(tmp_path):
    path = write(tmp_path, radar_bytes([[float("nan")] * 3 + [0, 0] + [float("nan")] * 5 + [0] * 8]))
    assert RadarPointCloud.from_file(str(path)).points.shape == (18, 0)
    assert read_radar(path).shape == (18, 0)
    assert default_filter(read_radar(path)).shape == (18, 0)


def test_no_points_at_all_is_an_empty_sweep(tmp_path):
    assert read_radar(write(tmp_path, radar_bytes([]))).shape == (18, 0)


def test_wider_types_are_read_by_what_the_header_says(tmp_path):
    point = [1.5, -2.5, 0.25, 3, 40000, 7.5, 1, 2, 3, 4, 1, 3, 19, 19, 0, 1, 3, 3]
    header = HEADER.format(fields=FIELDS, width=1, height=1, data="binary")
    header = header.replace("SIZE 4 4 4 1 2", "SIZE 8 8 8 1 4").replace("TYPE F F F I I", "TYPE F F F U U")
    path = write(tmp_path, header.encode() + struct.pack("<dddBIfffffbbbbbbbb", *point) + b"\n")
    np.testing.assert_array_equal(read_radar(path)[:, 0], np.float32(point))
    np.testing.assert_array_equal(RadarPointCloud.from_file(str(path)).points[:, 0], np.float32(point))


WHOLE = radar_bytes(random_points(20))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: copy or download it again"),
        (WHOLE[: -POINT.size // 2], r"is cut off: \d+ bytes, where 20 points need \d+"),
        (WHOLE[:100], "has no whole PCD header"),
        (WHOLE[:340], "has no whole PCD header|is cut off"),
        (np.ones(5000, np.float32).tobytes(), "has no whole PCD header"),
        (radar_bytes([], data="ascii"), "has DATA ascii; nuScenes' files are binary"),
        (radar_bytes([], data="binary_compressed"), "has DATA binary_compressed"),
        (radar_bytes(random_points(2), fields="x y z i"), "has the fields x y z i, where nuScenes has x y"),
        (radar_bytes(random_points(2), height=2), "HEIGHT"),
        (radar_bytes(random_points(2)).replace(b"WIDTH 2", b"WIDTH two"), "WIDTH or HEIGHT"),
        (radar_bytes(random_points(2)).replace(b"WIDTH 2", b"WIDTH -2"), "WIDTH or HEIGHT"),
        (radar_bytes(random_points(2)).replace(b"SIZE 4", b"SIZE 3"), "SIZE, TYPE, COUNT"),
        (radar_bytes(random_points(2)).replace(b"TYPE F", b"TYPE Q"), "SIZE, TYPE, COUNT"),
        (radar_bytes(random_points(2)).replace(b"COUNT 1", b"COUNT 2"), "SIZE, TYPE, COUNT"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_the_files_name(tmp_path, content, message):
    path = write(tmp_path, content)
    for read in (read_radar, check_radar):
        with pytest.raises(RadarFileError, match=f"^Radar file {path} .*({message})"):
            read(path)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.999])
def test_a_file_cut_anywhere_is_an_error(tmp_path, keep):
    path = write(tmp_path, WHOLE[: int(len(WHOLE) * keep)])
    with pytest.raises(RadarFileError):
        read_radar(path)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.pcd"):
        read_radar(tmp_path / "absent.pcd")
