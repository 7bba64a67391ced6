"""The pipelines of the shipped config on a small data set: what they output, and where it lands."""

import copy
import sys
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
from mmcv.parallel import collate
from mmdet3d.datasets import build_dataset
from nuscenes.utils.data_classes import Box
from nuscenes.utils.geometry_utils import view_points
from pyquaternion import Quaternion

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/data"))
from small_nuscenes import CAMERAS, SmallNuScenes  # noqa: E402

import racdino.openmmlab.dataset  # noqa: E402
import racdino.openmmlab.pipelines  # noqa: E402, F401

WIDTH, HEIGHT, FINAL = 320, 180, (64, 128)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return SmallNuScenes(tmp_path_factory.mktemp("nuscenes"), key_frames=4, width=WIDTH, height=HEIGHT)


@pytest.fixture(scope="module")
def config():
    """The shipped config at the size of the small data set, three frames."""
    config = mmcv.Config.fromfile(ROOT / "configs/racformer_r50_nuimg_704x256_f8.py")
    for pipeline in (config.data.train.pipeline, config.data.val.pipeline):
        for step in pipeline:
            if "sweeps_num" in step:
                step.sweeps_num = 2
            if "ida_aug_conf" in step:
                step.ida_aug_conf.update(H=HEIGHT, W=WIDTH, final_dim=FINAL, resize_lim=(0.38, 0.55))
    return config


def dataset(data, split, **changes):
    split = copy.deepcopy(split)
    split.update(ann_file=str(data.info_file), data_root=str(data.root))
    flags = changes.pop("flags", {})
    for step in split.pipeline:
        step.update(flags.get(step.type, {}))
    return build_dataset(split, default_args=changes)


@pytest.fixture(scope="module")
def training(data, config):
    return dataset(data, config.data.train)


def lidar_box(data, index, camera_record, row):
    """The devkit's box of an info row in the frame of a camera at its time."""
    x, y, z, length, width, height, yaw = data.infos[index]["gt_boxes"][row]
    box = Box([x, y, z], [width, length, height], Quaternion(axis=[0, 0, 1], radians=yaw))
    lidar = data.get("sample_data", f"LIDAR_TOP-{index}")
    for record, forth in ((lidar, True), (camera_record, False)):
        sensor = data.get("calibrated_sensor", record["calibrated_sensor_token"])
        ego = data.get("ego_pose", record["ego_pose_token"])
        for pose in (sensor, ego) if forth else (ego, sensor):
            if forth:
                box.rotate(Quaternion(pose["rotation"]))
                box.translate(np.array(pose["translation"]))
            else:
                box.translate(-np.array(pose["translation"]))
                box.rotate(Quaternion(pose["rotation"]).inverse)
    return box, np.array(data.get("calibrated_sensor", camera_record["calibrated_sensor_token"])["camera_intrinsic"])


def record_of(data, filename):
    return next(r for r in data.tables["sample_data"].values() if filename.endswith(r["filename"]))


def test_outputs_have_upstreams_shapes_and_types(training):
    sample = training[3]
    assert sample["img"].data.shape == (18, 3, *FINAL)
    assert sample["img"].data.dtype == torch.uint8
    assert sample["gt_depth"].data.shape == (6, *FINAL)
    for key in ("radar_depth", "radar_rcs"):
        assert sample[key].data.shape == (18, *FINAL)
        assert sample[key].data.dtype == torch.float32
    assert [points.data.shape[1] for points in sample["radar_points"]] == [7, 7, 7]
    boxes = sample["gt_bboxes_3d"].data
    assert boxes.tensor.shape == (len(sample["gt_labels_3d"].data), 9)
    meta = sample["img_metas"].data
    for key in ("filename", "ori_shape", "img_shape", "pad_shape", "lidar2img", "img_timestamp", "intrinsics"):
        assert len(meta[key]) == 18
    assert meta["ori_shape"][0] == (HEIGHT, WIDTH, 3)
    assert meta["img_shape"][0] == (*FINAL, 3)
    assert meta["sample_idx"] == "sample-3"
    assert meta["left_out"] == {"boxes": 0, "radar points": 0, "frames without radar points": 0}
    assert [Path(name).parent.name for name in meta["filename"][6:12]] == list(CAMERAS)


def test_samples_collate_into_a_batch(training):
    batch = collate([training[2], training[3]], samples_per_gpu=2)
    assert batch["img"].data[0].shape == (2, 18, 3, *FINAL)
    assert batch["radar_depth"].data[0].shape == (2, 18, *FINAL)
    assert [len(frame.data[0]) for frame in batch["radar_points"]] == [2, 2, 2]


def test_the_test_pipeline_collates_and_uses_key_frames(data, config):
    testing = dataset(data, config.data.val)
    batch = collate([testing[3]], samples_per_gpu=1)
    meta = batch["img_metas"][0].data[0][0]
    fronts = [record_of(data, name)["token"] for name in meta["filename"][::6]]
    assert fronts == ["CAM_FRONT-18", "CAM_FRONT-12", "CAM_FRONT-6"]
    assert batch["img"][0].data[0].shape == (1, 18, 3, *FINAL)
    assert batch["radar_rcs"][0].data[0].shape == (1, 18, *FINAL)
    assert len(batch["radar_points"][0]) == 3
    assert meta["sample_key"] >= 0
    np.testing.assert_allclose(np.subtract(meta["img_timestamp"][0], meta["img_timestamp"][6]), 0.5, atol=1e-6)


@pytest.mark.parametrize("index", [0, 3])
def test_box_corners_land_where_the_devkit_puts_them_in_current_and_past_images(data, config, index):
    testing = dataset(data, config.data.val)
    metas = testing[index]["img_metas"][0].data
    scale = FINAL[1] / WIDTH
    top = int(HEIGHT * scale) - FINAL[0]
    compared = 0
    for n, (name, lidar2img) in enumerate(zip(metas["filename"], metas["lidar2img"], strict=True)):
        record = record_of(data, name)
        assert record["channel"] == CAMERAS[n % 6]
        for row in range(12):
            box, intrinsic = lidar_box(data, index, record, row)
            corners = box.corners()
            if (corners[2] < 1).any():
                continue
            devkit = view_points(corners, intrinsic, normalize=True)[:2] * scale - [[0], [top]]
            x, y, z, length, width, height, yaw = data.infos[index]["gt_boxes"][row]
            ours = Box([x, y, z], [width, length, height], Quaternion(axis=[0, 0, 1], radians=yaw)).corners()
            projected = lidar2img @ np.concatenate([ours, np.ones((1, 8))])
            np.testing.assert_allclose(projected[:2] / projected[2], devkit, atol=1e-5)
            compared += 1
    assert compared > 20


def test_training_projections_follow_the_images_crop_flip_and_the_scenes_rotation(data, training):
    for epoch in range(6):
        sample = training[epoch, 3]
        meta = sample["img_metas"].data
        boxes = sample["gt_bboxes_3d"].data
        corners = boxes.corners.numpy().astype(np.float64)
        flips = set()
        for n in (0, 4, 8, 13):
            record = record_of(data, meta["filename"][n])
            found = []
            for row in range(12):
                box, intrinsic = lidar_box(data, 3, record, row)
                if (box.corners()[2] > 1).all():
                    found.append(np.sort(view_points(box.corners(), intrinsic, normalize=True)[:2], axis=1))
            augmented = meta["intrinsics"][n][:3, :3] @ np.linalg.inv(intrinsic)  # pixels to pixels
            flips.add(augmented[0, 0] < 0)
            homogeneous = np.concatenate([corners, np.ones((len(corners), 8, 1))], 2) @ meta["lidar2img"][n].T
            visible = (homogeneous[..., 2] > 1).all(axis=1)
            ours = homogeneous[visible, :, :2] / homogeneous[visible, :, 2:3]
            back = np.linalg.inv(augmented) @ np.concatenate([ours, np.ones((*ours.shape[:2], 1))], 2).transpose(
                0, 2, 1
            )
            mine = [np.sort(one[:2], axis=1) for one in back]
            assert len(mine) > 0
            for one in mine:  # each projected box is one of the devkit's
                assert min(np.abs(one - other).max() for other in found) < 0.05
        assert len(flips) == 1


def test_past_frames_lidar2img_is_the_explicit_pose_chain(data, config):
    meta = dataset(data, config.data.val)[2]["img_metas"][0].data
    scale, top = FINAL[1] / WIDTH, int(HEIGHT * FINAL[1] / WIDTH) - FINAL[0]
    resize = np.array([[scale, 0, 0, 0], [0, scale, -top, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    lidar = data.sensor_pose(data.get("sample_data", "LIDAR_TOP-2"))
    for name, lidar2img in zip(meta["filename"], meta["lidar2img"], strict=True):
        record = record_of(data, name)
        intrinsic = np.eye(4)
        intrinsic[:3, :3] = data.get("calibrated_sensor", record["channel"])["camera_intrinsic"]
        expected = resize @ intrinsic @ np.linalg.inv(data.sensor_pose(record)) @ lidar
        np.testing.assert_allclose(lidar2img, expected, rtol=1e-9, atol=1e-7)


def test_the_shipped_legacy_flags_are_known_steps_keywords(data, config):
    flags = {
        "RandomTransformImage": {"legacy_decode": True},
        "Loadnuradarpoints": {"legacy_radar_velocity": True},
        "LoadradarpointsFromMultiSweeps": {
            "legacy_radar_history": True,
            "legacy_independent_intervals": True,
            "legacy_radar_velocity": True,
        },
        "RaCGlobalRotScaleTransImage": {"legacy_radar_velocity": True},
    }
    legacy, ours = (dataset(data, config.data.train, flags=chosen)[0, 3] for chosen in (flags, {}))
    assert not torch.equal(legacy["img"].data, ours["img"].data)
    assert (legacy["img"].data.float() - ours["img"].data.float()).abs().mean() < 6  # the same pictures
    assert len(legacy["radar_points"][2].data) != 0


def test_radar_maps_show_the_points_of_their_own_frame_and_camera(training):
    sample = training[3]
    meta = sample["img_metas"].data
    for n in (0, 7, 14):
        points = sample["radar_points"][n // 6].data.double().numpy()
        u, v, depth = (meta["lidar2img"][n] @ np.concatenate([points[:, :3], np.ones((len(points), 1))], 1).T)[:3]
        inside = (depth >= 1) & (depth < 65)
        columns = np.round(u[inside] / depth[inside])
        rows = np.round(v[inside] / depth[inside])
        kept = (columns >= 0) & (columns < FINAL[1]) & (rows >= 0) & (rows < FINAL[0])
        shown = sample["radar_depth"].data[n].numpy()
        assert (shown == shown[:1]).all()
        assert set(np.flatnonzero(shown[0])) == set(columns[kept].astype(int))
        assert len(set(columns[kept])) > 3


def test_images_and_radar_share_one_interval_unless_legacy(data, config, training):
    flags = {"LoadradarpointsFromMultiSweeps": {"legacy_independent_intervals": True}}
    legacy = dataset(data, config.data.train, flags=flags)

    def lags(samples):
        for epoch in range(8):
            sample = samples[epoch, 3]
            times = sample["img_metas"].data["img_timestamp"]
            for frame in (1, 2):
                newest = float(sample["radar_points"][frame].data[:, 6].min())
                yield abs((times[0] - times[6 * frame]) - newest)

    # Radar and camera records of one moment are walked back in step: they part by 12 ms a step here.
    assert max(lags(training)) < 0.25
    assert max(lags(legacy)) > 0.25


def test_the_radars_velocity_turns_with_the_scene_unless_legacy(data, config, training):
    flags = {"RaCGlobalRotScaleTransImage": {"legacy_radar_velocity": True}}
    legacy = dataset(data, config.data.train, flags=flags)[1, 3]
    ours = training[1, 3]
    turned, left = ours["radar_points"][0].data, legacy["radar_points"][0].data
    np.testing.assert_array_equal(turned[:, :4], left[:, :4])
    test_time = dataset(data, config.data.val)[3]["radar_points"][0][0].data
    np.testing.assert_allclose(left[:, 4:6], test_time[:, 4:6], atol=1e-5)
    # the angle between positions before and after is the angle between velocities before and after
    angle = torch.atan2(turned[:, 1], turned[:, 0]) - torch.atan2(test_time[:, 1], test_time[:, 0])
    velocity = torch.atan2(turned[:, 5], turned[:, 4]) - torch.atan2(test_time[:, 5], test_time[:, 4])
    torch.testing.assert_close(torch.cos(angle - velocity), torch.ones(len(angle)), atol=1e-4, rtol=0)
    assert abs(float(angle[0])) > 0.01


def test_boxes_and_lidar_turn_together(data, config, training):
    sample = training[3]
    assert sample["gt_bboxes_3d"].data.tensor[:, 2].min() < 0
    meta = sample["img_metas"].data
    depth = sample["gt_depth"].data
    plain = dataset(data, config.data.val)[3]
    assert (depth > 0).sum() > 50
    assert (plain["gt_depth"][0].data > 0).sum() > 50
    points = np.fromfile(data.root / data.get("sample_data", "LIDAR_TOP-3")["filename"], np.float32).reshape(-1, 5)
    intrinsic = np.array(data.get("calibrated_sensor", "CAM_FRONT")["camera_intrinsic"])
    lidar = data.sensor_pose(data.get("sample_data", "LIDAR_TOP-3"))
    camera = np.linalg.inv(data.sensor_pose(data.get("sample_data", "CAM_FRONT-18"))) @ lidar
    seen = camera @ np.concatenate([points[:, :3], np.ones((len(points), 1))], 1).T.astype(np.float64)
    scale = np.cbrt(np.linalg.det(meta["lidar2img"][0][:3, :3]) / np.linalg.det(meta["intrinsics"][0][:3, :3]))
    pixels = meta["intrinsics"][0][:3, :3] @ seen[:3]
    u, v = np.round(pixels[:2] / pixels[2])
    kept = (seen[2] > 1.1) & (seen[2] < 60) & (u >= 0) & (u < FINAL[1]) & (v >= 0) & (v < FINAL[0])
    expected = np.full(FINAL, np.inf)
    for column, row, z in zip(u[kept].astype(int), v[kept].astype(int), seen[2][kept], strict=True):
        expected[row, column] = min(expected[row, column], z)
    both = np.isfinite(expected) & (depth[0].numpy() > 0)
    assert both.sum() > 20
    # Depths keep the scene's old unit: lidar2img undoes the scale.
    assert abs(abs(scale) - 1) < 0.06
    np.testing.assert_allclose(depth[0].numpy()[both], expected[both], rtol=1e-4)
    assert intrinsic.shape == (3, 3)
