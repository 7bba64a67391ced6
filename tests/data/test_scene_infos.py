"""What info files say equals what the devkit and mmdet3d's create_data compute from the same tables."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import mmdet3d
import numpy as np
import pytest
from mmdet3d.datasets import NuScenesDataset
from nuscenes.utils.geometry_utils import transform_matrix
from pyquaternion import Quaternion

from racdino.data.annotations import CLASS_OF_CATEGORY
from racdino.data.check import contents
from racdino.data.info import read_infos
from racdino.data.main import main
from racdino.data.tables import CAMERAS, RADARS

CONVERTER_FOLDER = Path(mmdet3d.__file__).parent / ".mim" / "tools" / "data_converter"


@pytest.fixture(scope="module")
def converter():
    if not CONVERTER_FOLDER.is_dir():
        pytest.skip("this mmdet3d was installed without its tools")
    sys.path.insert(0, str(CONVERTER_FOLDER))
    import nuscenes_converter

    sys.path.remove(str(CONVERTER_FOLDER))
    return nuscenes_converter


def matrix(record):
    return transform_matrix(record["translation"], Quaternion(record["rotation"]))


def global_from_sensor(nusc, row):
    ego = matrix(nusc.get("ego_pose", row["ego_pose_token"]))
    return ego @ matrix(nusc.get("calibrated_sensor", row["calibrated_sensor_token"]))


def test_every_shared_key_is_what_create_data_writes(prepared, converter):
    _, infos, nusc = prepared
    train = {scene["token"] for scene in nusc.scene if scene["name"] == "scene-0061"}
    expected, _ = converter._fill_trainval_infos(nusc, train, set())
    assert len(infos) == len(expected) == 7
    boxes = 0
    for info, theirs in zip(infos, expected, strict=True):
        for key in theirs.keys() - {"cams", "sweeps", "gt_boxes", "gt_names", "gt_velocity"}:
            np.testing.assert_array_equal(info[key], theirs[key], err_msg=key)
        np.testing.assert_allclose(info["gt_boxes"], theirs["gt_boxes"], atol=1e-9)
        np.testing.assert_allclose(info["gt_velocity"], theirs["gt_velocity"].reshape(-1, 2), atol=1e-9)
        assert info["gt_names"].tolist() == theirs["gt_names"].tolist()
        boxes += len(info["gt_boxes"])
        assert list(info["cams"]) == list(theirs["cams"])
        for channel, camera in info["cams"].items():
            assert camera["data_path"] == theirs["cams"][channel]["data_path"]
            assert (camera["type"], camera["timestamp"]) == (channel, theirs["cams"][channel]["timestamp"])
            for key in ("sensor2lidar_rotation", "sensor2lidar_translation", "cam_intrinsic"):
                np.testing.assert_allclose(camera[key], theirs["cams"][channel][key], atol=1e-9)
    assert boxes > 10
    assert any(np.isnan(info["gt_velocity"]).any() for info in infos)
    assert any(np.isfinite(info["gt_velocity"]).any() for info in infos)


def test_boxes_and_velocities_are_the_devkits(prepared):
    _, infos, nusc = prepared
    for info in infos:
        sample = nusc.get("sample", info["token"])
        _, boxes, _ = nusc.get_sample_data(sample["data"]["LIDAR_TOP"])
        to_lidar = np.linalg.inv(global_from_sensor(nusc, nusc.get("sample_data", sample["data"]["LIDAR_TOP"])))
        for row, velocity, box in zip(info["gt_boxes"], info["gt_velocity"], boxes, strict=True):
            np.testing.assert_allclose(row[:3], box.center, atol=1e-9)
            np.testing.assert_allclose(row[3:6], box.wlh[[1, 0, 2]], atol=1e-12)
            assert row[6] == pytest.approx(box.orientation.yaw_pitch_roll[0], abs=1e-9)
            moved = to_lidar[:3, :3] @ [*nusc.box_velocity(box.token)[:2], 0]
            np.testing.assert_allclose(velocity, moved[:2], atol=1e-9)


def test_sensor_to_global_is_the_devkits_transposed(prepared):
    _, infos, nusc = prepared
    for info in infos:
        for moment in (info["cams"], *info["sweeps"]):
            for channel in CAMERAS:
                camera = moment[channel]
                (row,) = (r for r in nusc.sample_data if r["filename"] in camera["data_path"])
                T = global_from_sensor(nusc, row)
                np.testing.assert_allclose(camera["sensor2global_rotation"], T[:3, :3].T, atol=1e-9)
                np.testing.assert_allclose(camera["sensor2global_translation"], T[:3, 3], atol=1e-9)
                assert camera["timestamp"] == row["timestamp"]
                assert np.shape(camera["cam_intrinsic"]) == (3, 3)


def test_sweeps_follow_the_devkits_prev_and_are_empty_for_a_first_key_frame(prepared):
    _, infos, nusc = prepared
    assert infos[0]["sweeps"] == []
    for info in infos[1:]:
        assert len(info["sweeps"]) == 5
        sample = nusc.get("sample", info["token"])
        for channel in (*CAMERAS, *RADARS):
            row = nusc.get("sample_data", sample["data"][channel])
            for sweep in info["sweeps"]:
                row = nusc.get("sample_data", row["prev"])
                if channel in CAMERAS:
                    assert sweep[channel]["data_path"].endswith(row["filename"])
                else:
                    assert sweep[channel] == row


def test_where_a_recording_begins_the_last_moment_is_repeated(raw):
    key = raw.rows("CAM_BACK", key_frames=True)[1]
    sweep = next(row for row in raw.tables["sample_data"] if row["token"] == key["prev"])
    sweep["prev"] = ""
    raw.save()
    assert main(["prepare", "--root", str(raw.root), "--version", "v1.0-mini"]) == 0
    sweeps = read_infos(raw.root / "nuscenes_infos_train_mini_sweep.pkl")[1]["sweeps"]
    assert len(sweeps) == 5
    assert all(sweep is sweeps[0] for sweep in sweeps)


def test_moments_are_none_where_cameras_recorded_key_frames_alone(raw):
    key_frames = [row for row in raw.tables["sample_data"] if row["is_key_frame"] or "CAM" not in row["filename"]]
    for channel, scene in itertools.product(CAMERAS, ("scene-0061", "scene-0103")):
        rows = raw.rows(channel, scene, key_frames=True)
        for row, before in zip(rows, [{"token": ""}, *rows], strict=False):
            row["prev"] = before["token"]
    raw.tables["sample_data"] = key_frames
    raw.save()
    assert main(["prepare", "--root", str(raw.root), "--version", "v1.0-mini"]) == 0
    assert [info["sweeps"] for info in read_infos(raw.root / "nuscenes_infos_train_mini_sweep.pkl")] == [[], [], []]


def test_key_frame_radars_are_the_devkits_rows(prepared):
    _, infos, nusc = prepared
    for info in infos:
        data = nusc.get("sample", info["token"])["data"]
        assert info["rads"] == {channel: nusc.get("sample_data", data[channel]) for channel in RADARS}


def test_radar_histories_joined_along_prev_are_the_whole_recordings(prepared):
    _, infos, nusc = prepared
    by_token = {info["token"]: info for info in infos}
    for channel in RADARS:
        info, found = infos[-1], []
        while info:
            history = info["radar_history"][channel]
            assert history["filename"][0].startswith("samples/")
            assert all(name.startswith("sweeps/") for name in history["filename"][1:])
            found += zip(history["token"], history["filename"], history["timestamp"], strict=True)
            for k, token in enumerate(history["token"]):
                row = nusc.get("sample_data", token)
                ego = nusc.get("ego_pose", row["ego_pose_token"])
                sensor = nusc.get("calibrated_sensor", row["calibrated_sensor_token"])
                for kind in ("translation", "rotation"):
                    np.testing.assert_array_equal(history[f"ego2global_{kind}"][k], ego[kind])
                    np.testing.assert_array_equal(history[f"sensor2ego_{kind}"], sensor[kind])
            info = by_token.get(info["prev"])
        expected, token = [], nusc.get("sample", infos[-1]["token"])["data"][channel]
        while token:
            row = nusc.get("sample_data", token)
            expected.append((token, row["filename"], row["timestamp"]))
            token = row["prev"]
        assert found == expected
        assert len(found) > 35


def test_infos_are_in_the_order_of_the_table_and_linked(prepared):
    _, infos, nusc = prepared
    scene = next(scene for scene in nusc.scene if scene["name"] == "scene-0061")
    assert [info["token"] for info in infos] == [s["token"] for s in nusc.sample if s["scene_token"] == scene["token"]]
    assert [info["prev"] for info in infos] == ["", *(info["token"] for info in infos[:-1])]
    assert {(info["scene_name"], info["scene_token"]) for info in infos} == {("scene-0061", scene["token"])}


def test_class_names_are_mmdet3ds():
    theirs = NuScenesDataset.NameMapping
    assert {category: theirs[category] for category in CLASS_OF_CATEGORY} == CLASS_OF_CATEGORY
    assert set(CLASS_OF_CATEGORY.values()) == set(NuScenesDataset.CLASSES)


def test_mmdet3ds_data_set_reads_the_file(prepared):
    root, infos, _ = prepared
    dataset = NuScenesDataset(
        ann_file=str(root / "nuscenes_infos_train_mini_sweep.pkl"),
        modality={"use_camera": True, "use_lidar": True, "use_radar": False, "use_map": False, "use_external": False},
        use_valid_flag=True,
    )
    assert len(dataset) == len(infos)
    boxes = dataset.get_ann_info(3)["gt_bboxes_3d"]
    np.testing.assert_allclose(
        boxes.gravity_center.numpy(), infos[3]["gt_boxes"][infos[3]["valid_flag"]][:, :3], atol=1e-3
    )
    assert len(dataset.get_data_info(3)["lidar2img"]) == 6


def test_contents_names_every_file(prepared):
    _, infos, _ = prepared
    files = [name for name in contents(infos[2]) if "/" in name]
    histories = sum(len(history["filename"]) for history in infos[2]["radar_history"].values())
    assert len(files) == 1 + 6 * 11 + histories
