"""One real nuScenes key frame through the test pipeline: boxes, LiDAR and pixels where independent sources put them."""

import pickle
from pathlib import Path

import mmcv
import numpy as np
import pytest
from mmdet3d.datasets import build_dataset
from PIL import Image

import racdino.openmmlab.dataset  # noqa: F401
from racdino.data.tables import CAMERAS, RADARS

ROOT = Path(__file__).resolve().parents[2]
FRAME = ROOT.parent / "shared/data/nuscenes-frame"
SCALE, TOP = 0.44, 140

pytestmark = pytest.mark.skipif(not FRAME.is_dir(), reason=f"there is no ../shared/data/{FRAME.name}")


@pytest.fixture(scope="module")
def frame():
    return pickle.loads(next(FRAME.glob("*.pkl")).read_bytes())["data_list"][0]


@pytest.fixture(scope="module")
def sample(frame, tmp_path_factory):
    T_global_from_ego = np.array(frame["ego2global"])
    T_ego_from_lidar = np.array(frame["lidar_points"]["lidar2ego"])
    T_global_from_lidar = T_global_from_ego @ T_ego_from_lidar
    cameras = {}
    for channel in CAMERAS:
        image = frame["images"][channel]
        pose = T_global_from_lidar @ np.linalg.inv(np.array(image["lidar2cam"]))
        cameras[channel] = {
            "data_path": str(FRAME / image["img_path"]),
            "sensor2global_rotation": pose[:3, :3].T,
            "sensor2global_translation": pose[:3, 3],
            "cam_intrinsic": np.array(image["cam2img"]),
            "timestamp": int(image["timestamp"] * 1e6),
        }
    nothing = {"filename": [], "token": [], "timestamp": np.zeros(0, int)}
    info = {
        "token": frame["token"],
        "timestamp": int(frame["timestamp"] * 1e6),
        "scene_token": "scene-0061",
        "prev": "",
        "lidar_path": str(FRAME / frame["lidar_points"]["lidar_path"]),
        **pose_of("lidar2ego", T_ego_from_lidar),
        **pose_of("ego2global", T_global_from_ego),
        "cams": cameras,
        "rads": dict.fromkeys(RADARS),
        "sweeps": [],
        "radar_history": dict.fromkeys(RADARS, nothing),
    }
    path = tmp_path_factory.mktemp("frame") / "infos.pkl"
    path.write_bytes(pickle.dumps({"infos": [info], "metadata": {"version": "v1.0-mini", "racdino": 2}}))
    split = mmcv.Config.fromfile(ROOT / "configs/racformer_r50_nuimg_704x256_f8.py").data.val
    return build_dataset({**split, "ann_file": str(path), "data_root": str(FRAME)})[0]


def pose_of(name, matrix):
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(matrix[:3, :3]).as_quat()
    return {f"{name}_rotation": [w, x, y, z], f"{name}_translation": matrix[:3, 3].tolist()}


def test_annotated_centres_land_on_their_own_pixels(frame, sample):
    lidar2img = sample["img_metas"][0].data["lidar2img"]
    boxes = np.array([one["bbox_3d"] for one in frame["instances"]])
    compared = 0
    for projection, channel in zip(lidar2img, CAMERAS, strict=False):
        homogeneous = projection @ np.concatenate([boxes[:, :3], np.ones((len(boxes), 1))], 1).T
        for one in frame["cam_instances"][channel]:
            expected = [one["center_2d"][0] * SCALE, one["center_2d"][1] * SCALE - TOP, one["depth"]]
            ours = np.stack([homogeneous[0] / homogeneous[2], homogeneous[1] / homogeneous[2], homogeneous[2]])
            distance = np.abs(ours - np.reshape(expected, (3, 1))).max(axis=0)
            assert distance.min() < 0.05
            compared += 1
    assert compared > 50


def test_images_are_pillows_within_the_decoders_rounding(frame, sample):
    for image, channel in zip(sample["img"][0].data[:6].numpy(), CAMERAS, strict=True):
        whole = Image.open(FRAME / frame["images"][channel]["img_path"]).resize((704, 396), Image.Resampling.BICUBIC)
        expected = np.asarray(whole)[TOP:, :, ::-1].astype(float)
        assert 10 * np.log10(255**2 / np.mean((image.transpose(1, 2, 0) - expected) ** 2)) > 42


def test_lidar_depths_agree_with_annotated_boxes(frame, sample):
    depth = sample["gt_depth"][0].data.numpy()
    near = [one for one in frame["cam_instances"]["CAM_FRONT"] if 8 < one["depth"] < 40]
    agree = 0
    for one in near:
        left, top, right, bottom = np.array(one["bbox"]) * SCALE - [0, TOP, 0, TOP]
        seen = depth[0, max(int(top), 0) : int(bottom) + 1, max(int(left), 0) : int(right) + 1]
        half = max(one["bbox_3d"][3:6]) / 2
        agree += bool((np.abs(seen[seen > 0] - one["depth"]) <= half + 0.5).any())
    assert len(near) > 3
    assert agree >= 0.8 * len(near)


def test_a_frame_without_radar_is_counted(sample):
    assert sample["img_metas"][0].data["left_out"]["frames without radar points"] == 8
