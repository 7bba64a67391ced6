"""The data set: the same bytes whatever loads them, and one sentence for every input that cannot be loaded."""

import copy
import shutil
import sys
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
from mmcv.parallel import DataContainer
from mmdet3d.datasets import build_dataset

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/data"))
from small_nuscenes import SmallNuScenes  # noqa: E402

import racdino.openmmlab.dataset  # noqa: E402
import racdino.openmmlab.pipelines  # noqa: E402, F401
from racdino.data import images, radar  # noqa: E402
from racdino.data.errors import SampleError  # noqa: E402

WIDTH, HEIGHT, FINAL = 160, 90, (32, 64)


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    return SmallNuScenes(tmp_path_factory.mktemp("intact"), key_frames=3, width=WIDTH, height=HEIGHT, radar_points=12)


@pytest.fixture
def data(intact, tmp_path):
    """A copy to damage; nothing of the intact one may be remembered."""
    shutil.copytree(intact.root, tmp_path / "data")
    damaged = copy.copy(intact)
    damaged.root, damaged.infos = tmp_path / "data", copy.deepcopy(intact.infos)
    damaged.info_file = damaged.root / "infos.pkl"
    images.load.cache_clear()
    radar.sensor_points.cache_clear()
    return damaged


@pytest.fixture(scope="module")
def config():
    config = mmcv.Config.fromfile(ROOT / "configs/racformer_r50_nuimg_704x256_f8.py")
    for pipeline in (config.data.train.pipeline, config.data.val.pipeline):
        for step in pipeline:
            if "sweeps_num" in step:
                step.sweeps_num = 1
            if "ida_aug_conf" in step:
                step.ida_aug_conf.update(H=HEIGHT, W=WIDTH, final_dim=FINAL)
    return config


def dataset(data, split, **changes):
    data.save()
    return build_dataset({**split, "ann_file": str(data.info_file), "data_root": str(data.root), **changes})


def same(a, b):
    """Bit for bit."""
    if isinstance(a, DataContainer):
        return same(a.data, b.data)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (torch.Tensor, np.ndarray)):
        return np.asarray(a).tobytes() == np.asarray(b).tobytes()
    return same(a.tensor, b.tensor) if hasattr(a, "tensor") else a == b


def identity(batch):
    return batch[0]


class Order(torch.utils.data.Sampler):
    def __init__(self, order):
        self.order = order

    def __iter__(self):
        return iter(self.order)

    def __len__(self):
        return len(self.order)


@pytest.mark.parametrize("workers", [1, 2])
def test_samples_are_the_same_bytes_whatever_the_number_of_workers(intact, config, workers):
    order = [(1, 2), (0, 1), (1, 0), (0, 2), (1, 2)]
    training = dataset(intact, config.data.train)
    loader = torch.utils.data.DataLoader(training, sampler=Order(order), num_workers=workers, collate_fn=identity)
    for loaded, key in zip(loader, order, strict=True):
        assert same(loaded, dataset(intact, config.data.train)[key])


def test_epochs_and_seeds_change_a_sample_and_the_epoch_is_that_of_set_epoch(intact, config):
    training = dataset(intact, config.data.train)
    first = training[2]
    assert same(first, training[0, 2])
    training.set_epoch(3)
    assert same(training[2], training[3, 2])
    assert not same(first["img"], training[2]["img"])
    assert not same(first["img"], dataset(intact, config.data.train, seed=1)[2]["img"])


def test_global_random_state_has_no_part(intact, config):
    training = dataset(intact, config.data.train)
    np.random.seed(0)
    first = training[2]
    np.random.seed(1)
    torch.manual_seed(5)
    assert same(first, training[2])


def test_a_sample_without_boxes_is_replaced_by_one_that_its_own_key_decides(data, config):
    data.infos[1]["valid_flag"][:] = False
    training = dataset(data, config.data.train)
    replaced = training[1]
    assert replaced["img_metas"].data["sample_idx"] != "sample-1"
    assert same(replaced, dataset(data, config.data.train)[1])
    for info in data.infos:
        info["valid_flag"][:] = False
    with pytest.raises(SampleError, match="have no box of car, truck"):
        dataset(data, config.data.train)[1]


def test_boxes_of_no_size_or_place_are_left_out_and_counted(data, config):
    data.infos[2]["gt_boxes"][0, 4] = 0
    data.infos[2]["gt_boxes"][1, 0] = np.nan
    data.infos[2]["gt_boxes"][2, 5] = -1
    sample = dataset(data, config.data.train)[2]
    assert sample["img_metas"].data["left_out"]["boxes"] == 3
    assert len(sample["gt_labels_3d"].data) == len(sample["gt_bboxes_3d"].data) == 9


def test_infos_may_name_files_from_the_working_folder_or_from_the_data_set(data, config, monkeypatch):
    by_root = dataset(data, config.data.val)[1]["img"][0].data
    for info in data.infos:
        for camera in info["cams"].values():
            camera["data_path"] = camera["data_path"].removeprefix("data/nuscenes/")
    assert same(dataset(data, config.data.val)[1]["img"][0].data, by_root)
    (data.root.parent / "elsewhere/data").mkdir(parents=True)
    shutil.copytree(data.root, data.root.parent / "elsewhere/data/nuscenes")
    monkeypatch.chdir(data.root.parent / "elsewhere")
    data.infos[1]["cams"]["CAM_FRONT"]["data_path"] = f"data/nuscenes/{data.infos[1]['cams']['CAM_FRONT']['data_path']}"
    names = dataset(data, config.data.val)[1]["img_metas"][0].data["filename"]
    assert names[0].startswith("data/nuscenes/samples/CAM_FRONT/")
    assert names[1].startswith(str(data.root))


def test_without_a_transform_mmdet3ds_own_step_reads_the_images(data, config):
    steps = list(config.data.val.pipeline[:2])
    plain = dataset(data, config.data.val, pipeline=steps)[1]
    assert plain["img"][0].shape == (HEIGHT, WIDTH, 3)
    assert len(plain["img"]) == len(plain["lidar2img"]) == 12


def file_of(data, kind, index=2, moment=None):
    info = data.infos[index]
    if kind == "image":
        path = (moment or info["cams"])["CAM_BACK"]["data_path"].removeprefix("data/nuscenes/")
    elif kind == "radar":
        path = info["radar_history"]["RADAR_FRONT"]["filename"][0]
    else:
        path = info["lidar_path"].removeprefix("data/nuscenes/")
    return data.root / path


DAMAGES = {
    "truncated image": ("image", lambda path: path.write_bytes(path.read_bytes()[:-300]), "is cut off"),
    "empty image": ("image", lambda path: path.write_bytes(b""), "is empty"),
    "missing image": ("image", Path.unlink, "No such file"),
    "empty radar file": ("radar", lambda path: path.write_bytes(b""), "is empty"),
    "cut radar file": ("radar", lambda path: path.write_bytes(path.read_bytes()[:-100]), "is cut off"),
    "missing radar file": ("radar", Path.unlink, "No such file"),
    "cut LiDAR file": ("lidar", lambda path: path.write_bytes(path.read_bytes()[:-7]), "is cut off"),
    "empty LiDAR file": ("lidar", lambda path: path.write_bytes(b""), "is empty"),
    "missing LiDAR file": ("lidar", Path.unlink, "No such file"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_damaged_file_gives_one_sentence_with_sample_and_file(data, config, split, damage):
    kind, harm, message = DAMAGES[damage]
    path = file_of(data, kind)
    harm(path)
    with pytest.raises(SampleError) as error:
        dataset(data, config.data[split])[2]
    text = str(error.value)
    assert text.startswith("Sample sample-2 cannot be loaded: ")
    assert path.name in text
    assert message in text
    assert text.count("\n") == 0


def test_a_damaged_past_image_is_named_with_the_sample_that_needs_it(data, config):
    path = file_of(data, "image", 1)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(SampleError, match=rf"sample-2 cannot be loaded: image \S+{path.name} is cut off"):
        dataset(data, config.data.val)[2]


@pytest.mark.parametrize("where", ["camera", "ego", "past camera"])
def test_a_pose_that_is_not_finite_names_the_sample(data, config, where):
    if where == "camera":
        data.infos[2]["cams"]["CAM_BACK"]["sensor2global_translation"] = np.full(3, np.nan)
    elif where == "ego":
        data.infos[2]["ego2global_translation"] = [float("nan"), 0, 0]
    else:
        data.infos[1]["cams"]["CAM_BACK"]["cam_intrinsic"] = np.full((3, 3), np.inf)
    with pytest.raises(SampleError, match=r"Sample sample-2 cannot be loaded: the pose or calibration of \S+ is not"):
        dataset(data, config.data.val)[2]


def test_frames_without_radar_points_are_loaded_and_counted(data, config):
    for info in data.infos:
        for history in info["radar_history"].values():
            history.update(filename=[], token=[], timestamp=np.zeros(0, int))
    sample = dataset(data, config.data.train)[2]
    assert [tuple(points.data.shape) for points in sample["radar_points"]] == [(0, 7), (0, 7)]
    assert not sample["radar_depth"].data.any()
    assert sample["img_metas"].data["left_out"]["frames without radar points"] == 2


def test_wrong_class_lists_are_refused(data, config):
    with pytest.raises(ValueError, match="unknown or repeated names: lorry"):
        dataset(data, config.data.train, classes=["car", "lorry"])
    with pytest.raises(ValueError, match="ObjectNameFilter has the classes car, truck"):
        dataset(data, config.data.train, classes=["truck", "car"])


def test_training_on_infos_without_boxes_is_refused(data, config):
    for info in data.infos:
        del info["gt_boxes"], info["gt_names"]
    with pytest.raises(ValueError, match="has no boxes, as for a test set"):
        dataset(data, config.data.train)


def test_no_devkit_database_is_built(data, config, monkeypatch):
    import nuscenes

    def refuse(*arguments, **keywords):
        raise AssertionError("NuScenes was built")

    monkeypatch.setattr(nuscenes.NuScenes, "__init__", refuse)
    dataset(data, config.data.train)[2]
