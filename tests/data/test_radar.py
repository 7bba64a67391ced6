"""Accumulated radar points equal the devkit's, from the current moment and from past ones."""

import numpy as np
import pytest
from nuscenes.utils.data_classes import RadarPointCloud
from pyquaternion import Quaternion
from radar_writer import radar_bytes
from small_nuscenes import RADARS, SmallNuScenes

from racdino.data import radar
from racdino.data.history import key_moment, past_moments
from racdino.data.radar_files import RadarFileError


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return SmallNuScenes(tmp_path_factory.mktemp("nuscenes"), key_frames=4, width=32, height=18)


def infos(data):
    return {info["token"]: info for info in data.infos}


def locate(data):
    return lambda filename: str(data.root / filename)


def devkit_points(data, current, begin, num_sweeps=5):
    """(n, 19): the devkit's accumulation of each radar from the record that ``begin`` names, and the time lag."""
    parts = []
    for channel in RADARS:
        sample = {"data": {"LIDAR_TOP": f"LIDAR_TOP-{current}", channel: begin(channel)}}
        points, lags = RadarPointCloud.from_file_multisweep(data, sample, channel, "LIDAR_TOP", nsweeps=num_sweeps)
        parts.append(np.concatenate([points.points, lags]).T)
    return np.concatenate(parts)


def assert_same_points(ours, devkit):
    assert len(ours) == len(devkit) > 50
    np.testing.assert_allclose(ours[:, :2], devkit[:, :2], atol=1e-4)
    np.testing.assert_array_equal(ours[:, 2], 0)
    np.testing.assert_allclose(ours[:, 3], devkit[:, 5], rtol=1e-6)
    np.testing.assert_allclose(ours[:, 6], devkit[:, 18], atol=1e-6)


def test_current_points_equal_the_devkits_multisweep(data):
    info = data.infos[2]
    ours, left_out = radar.accumulate(info, key_moment(info), infos(data), locate(data))
    assert left_out == 0
    assert_same_points(ours, devkit_points(data, 2, lambda channel: f"{channel}-14"))


@pytest.mark.parametrize(("step", "begin"), [(1, 19), (4, 16), (5, 14), (8, 11)])  # five sweeps, then a key frame
def test_past_points_are_the_devkits_from_the_past_sweep_on(data, step, begin):
    info = data.infos[3]
    ours, _ = radar.accumulate(info, past_moments(info, infos(data))[step], infos(data), locate(data))
    assert_same_points(ours, devkit_points(data, 3, lambda channel: f"{channel}-{begin}"))


@pytest.mark.parametrize(("step", "begin"), [(1, 21), (4, 21), (5, 14), (8, 14)])
def test_legacy_history_restarts_from_the_key_frame_that_the_sweep_belongs_to(data, step, begin):
    info = data.infos[3]
    moment = past_moments(info, infos(data))[step]
    ours, _ = radar.accumulate(info, moment, infos(data), locate(data), legacy_radar_history=True)
    assert_same_points(ours, devkit_points(data, 3, lambda channel: f"{channel}-{begin}"))


def test_the_recordings_begin_ends_the_accumulation(data):
    info = data.infos[0]
    ours, _ = radar.accumulate(info, key_moment(info), infos(data), locate(data))
    assert_same_points(ours, devkit_points(data, 0, lambda channel: f"{channel}-0"))


def test_a_sweep_without_radar_record_takes_the_sweeps_up_to_its_images_time(data):
    info = data.infos[3]
    moment = past_moments(info, infos(data))[1]
    without = moment._replace(sensors={**moment.sensors, "RADAR_FRONT": None})
    latest = max(moment.sensors[name]["timestamp"] for name in moment.sensors if name.startswith("CAM"))
    ours, _ = radar.accumulate(info, without, infos(data), locate(data), num_sweeps=1)
    record = data.get("sample_data", "RADAR_FRONT-21")
    while record["timestamp"] > latest:
        record = data.get("sample_data", record["prev"])
    assert ours[0, 6] == pytest.approx((info["timestamp"] - record["timestamp"]) / 1e6)


def velocities(data, current, record_index, legacy):
    """Independent: each channel's compensated velocities, turned by pyquaternion."""
    lidar = data.get("sample_data", f"LIDAR_TOP-{current}")
    parts = []
    for channel in RADARS:
        record = data.get("sample_data", f"{channel}-{record_index}")
        cloud = RadarPointCloud.from_file(str(data.root / record["filename"]))
        cloud.remove_close(1.0)
        chain = [Quaternion(data.get("calibrated_sensor", "LIDAR_TOP")["rotation"]).inverse]
        if not legacy:
            chain.append(Quaternion(data.get("ego_pose", lidar["ego_pose_token"])["rotation"]).inverse)
            chain.append(Quaternion(data.get("ego_pose", record["ego_pose_token"])["rotation"]))
        chain.append(Quaternion(data.get("calibrated_sensor", channel)["rotation"]))
        for vx, vy in cloud.points[8:10].T:
            vector = np.array([vx, vy, 0])
            for rotation in reversed(chain):
                vector = rotation.rotate(vector)
            parts.append(vector[:2])
    return np.array(parts)


@pytest.mark.parametrize("legacy", [False, True])
def test_velocities_turn_with_the_ego_and_in_legacy_by_calibration_alone(data, legacy):
    info = data.infos[3]
    moment = past_moments(info, infos(data))[5]  # the key frame before
    ours, _ = radar.accumulate(info, moment, infos(data), locate(data), num_sweeps=1, legacy_radar_velocity=legacy)
    np.testing.assert_allclose(ours[:, 4:6], velocities(data, 3, 14, legacy), atol=1e-4)
    assert not np.allclose(ours[:, 4:6], velocities(data, 3, 14, not legacy), atol=0.1)


def test_points_with_impossible_values_are_left_out_and_counted(tmp_path):
    good = [10, 1, 0, 0, 1, 5.0, 0, 0, 0, 0, 1, 3, 0, 0, 0, 0, 0, 0]
    loud, silent, nowhere = ([*good[:5], 64.0, *good[6:]], [*good[:5], -64.5, *good[6:]], [float("inf"), *good[1:]])
    path = tmp_path / "sweep.pcd"
    path.write_bytes(radar_bytes([good, loud, silent, nowhere]))
    points, impossible = radar.sensor_points(str(path))
    assert (len(points), impossible) == (1, 3)


def test_an_empty_sweep_gives_no_points(tmp_path):
    path = tmp_path / "sweep.pcd"
    path.write_bytes(radar_bytes([[float("nan")] * 3 + [0, 0] + [float("nan")] * 5 + [0] * 8]))
    assert radar.sensor_points(str(path))[0].shape == (0, 6)


def test_a_pose_that_is_not_finite_names_its_file(data):
    info = {**data.infos[1]}
    history = info["radar_history"]["RADAR_FRONT"]
    broken = {**history, "ego2global_translation": history["ego2global_translation"] * np.nan}
    info["radar_history"] = {**info["radar_history"], "RADAR_FRONT": broken}
    with pytest.raises(ValueError, match=r"pose of samples/RADAR_FRONT/\S+ is not finite"):
        radar.accumulate(info, key_moment(info), infos(data), locate(data))


def test_a_cut_file_is_named(tmp_path):
    path = tmp_path / "sweep.pcd"
    path.write_bytes(radar_bytes([[0.0] * 3 + [0, 0] + [0.0] * 5 + [0] * 8] * 3)[:-40])
    with pytest.raises(RadarFileError, match=r"sweep\.pcd is cut off"):
        radar.sensor_points(str(path))
