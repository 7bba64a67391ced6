"""racdino/evaluation/submission.py: its boxes are those of the devkit and of mmdet3d, and bad ones are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.common.loaders import add_center_dist, filter_eval_boxes, load_prediction
from nuscenes.eval.detection.constants import ATTRIBUTE_NAMES
from nuscenes.eval.detection.data_classes import DetectionBox
from pyquaternion import Quaternion

from racdino.evaluation import CLASS_NAMES, EvaluationError, write_submission
from racdino.evaluation.detections import Found, truth
from racdino.evaluation.geometry import to_global
from racdino.evaluation.submission import CLASS_RANGE, MAX_BOXES, attribute, sample_entries

EMPTY = Found(np.zeros((0, 9)), np.zeros(0), np.zeros(0, np.int64))


def random_found(count: int, seed: int = 0, reach: float = 60.0) -> Found:
    random = np.random.default_rng(seed)
    boxes = random.uniform(-1, 1, (count, 9)) * [reach, reach, 2, 0, 0, 0, 9, 8, 8]
    boxes[:, 3:6] = random.uniform(0.3, 9, (count, 3))
    return Found(boxes, random.uniform(0, 1, count), random.integers(0, 10, count))


def one(**changes: Any) -> Found:
    row = dict(x=5.0, y=3.0, z=-1.0, dx=4.0, dy=2.0, dz=1.5, yaw=0.3, vx=1.0, vy=0.0) | changes  # noqa: C408
    return Found(np.array([list(row.values())]), np.array([0.5]), np.array([0]))


def test_global_boxes_are_those_of_mmdet3d(infos):
    from mmdet3d.core.bbox import LiDARInstance3DBoxes
    from mmdet3d.datasets.nuscenes_dataset import lidar_nusc_box_to_global, output_to_nusc_box

    found = random_found(200, reach=25.0)
    result = {
        "boxes_3d": LiDARInstance3DBoxes(torch.tensor(found.boxes, dtype=torch.float32), box_dim=9),
        "scores_3d": torch.tensor(found.scores),
        "labels_3d": torch.tensor(found.labels),
    }
    config = config_factory("detection_cvpr_2019")
    config.class_range = dict.fromkeys(CLASS_NAMES, 1e9)
    theirs = lidar_nusc_box_to_global(infos[1], output_to_nusc_box(result), CLASS_NAMES, config)
    ours = to_global(found.boxes, infos[1])
    for i, box in enumerate(theirs):
        np.testing.assert_allclose(ours.centre[i], box.center, atol=1e-4)
        np.testing.assert_allclose(ours.size[i], box.wlh, atol=1e-5)
        np.testing.assert_allclose(ours.velocity[i], box.velocity[:2], atol=1e-5)
        assert Quaternion.absolute_distance(Quaternion(ours.rotation[i]), box.orientation) < 1e-6


def test_truth_of_an_info_comes_back_as_the_annotation(nusc, infos):
    for info in infos:
        boxes = to_global(truth(info, CLASS_NAMES).boxes, info)
        sample = nusc.get("sample", info["token"])
        for i, token in enumerate(sample["anns"]):
            record = nusc.get("sample_annotation", token)
            np.testing.assert_allclose(boxes.centre[i], record["translation"], atol=1e-9)
            np.testing.assert_allclose(boxes.size[i], record["size"], atol=1e-9)
            # Boxes in the LiDAR frame stand upright in it, so the sensor's tilt of 0.04 rad is lost, as in the field.
            assert Quaternion.absolute_distance(Quaternion(boxes.rotation[i]), Quaternion(record["rotation"])) < 0.05
            np.testing.assert_allclose(boxes.velocity[i], nusc.box_velocity(token)[:2], atol=0.3)


def test_classes_reach_as_far_as_in_the_devkits_configuration():
    assert config_factory("detection_cvpr_2019").class_range == CLASS_RANGE


def test_the_range_filter_keeps_what_the_devkits_keeps(nusc, infos, tmp_path):
    found = [random_found(400, seed) for seed in range(len(infos))]
    path = write_submission(found, infos, tmp_path / "filtered.json")
    kept, _ = load_prediction(str(path), 500, DetectionBox)
    unfiltered = tmp_path / "all.json"
    wide = dict.fromkeys(CLASS_RANGE, np.inf)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("racdino.evaluation.submission.CLASS_RANGE", wide)
        write_submission(found, infos, unfiltered)
    everything, _ = load_prediction(str(unfiltered), 500, DetectionBox)
    filtered = filter_eval_boxes(nusc, add_center_dist(nusc, everything), CLASS_RANGE)
    assert 0 < len(kept.all) < 400 * len(infos)
    for info in infos:
        scores = [box.detection_score for box in kept[info["token"]]]
        assert scores == [box.detection_score for box in filtered[info["token"]]]


def test_of_more_than_500_boxes_those_of_the_highest_scores_stay(infos):
    found = random_found(700, reach=20.0)
    scores = [entry["detection_score"] for entry in sample_entries(found, infos[0])]
    assert scores == sorted(found.scores, reverse=True)[:MAX_BOXES]


@pytest.mark.parametrize(
    ("name", "moving", "resting"),
    [
        ("car", "vehicle.moving", "vehicle.parked"),
        ("construction_vehicle", "vehicle.moving", "vehicle.parked"),
        ("bus", "vehicle.moving", "vehicle.stopped"),
        ("bicycle", "cycle.with_rider", "cycle.without_rider"),
        ("pedestrian", "pedestrian.moving", "pedestrian.standing"),
        ("barrier", "", ""),
        ("traffic_cone", "", ""),
    ],
)
def test_attributes_follow_the_speed(name, moving, resting):
    assert attribute(name, 0.21) == moving
    assert attribute(name, 0.2) == resting


def test_attributes_are_those_of_mmdet3ds_formatter(infos, tmp_path):
    """Its rule is inside a method that writes files: the method runs on a stand-in for the data set."""
    from types import SimpleNamespace

    from mmdet3d.core.bbox import LiDARInstance3DBoxes
    from mmdet3d.datasets import NuScenesDataset

    found = random_found(300, reach=20.0)
    found.boxes[::2, 7:] *= 0.02  # slow ones
    result = {
        "boxes_3d": LiDARInstance3DBoxes(torch.tensor(found.boxes, dtype=torch.float32), box_dim=9),
        "scores_3d": torch.tensor(found.scores),
        "labels_3d": torch.tensor(found.labels),
    }
    dataset = SimpleNamespace(
        CLASSES=CLASS_NAMES,
        with_velocity=True,
        data_infos=infos[:1],
        eval_detection_configs=config_factory("detection_cvpr_2019"),
        eval_version="detection_cvpr_2019",
        modality={},
    )
    theirs = json.loads(Path(NuScenesDataset._format_bbox(dataset, [result], str(tmp_path))).read_text())
    expected = {round(e["detection_score"], 12): e["attribute_name"] for e in theirs["results"][infos[0]["token"]]}
    ours = {round(e["detection_score"], 12): e["attribute_name"] for e in sample_entries(found, infos[0])}
    assert ours == expected
    assert set(ours.values()) == {*ATTRIBUTE_NAMES, ""} - {"pedestrian.sitting_lying_down"}


def test_a_submission_loads_in_the_devkit_with_an_entry_for_every_sample(infos, tmp_path):
    path = write_submission([EMPTY, *[one()] * (len(infos) - 1)], infos, tmp_path / "deep/results.json")
    boxes, meta = load_prediction(str(path), 500, DetectionBox)
    assert boxes.sample_tokens == [info["token"] for info in infos]
    assert len(boxes[infos[0]["token"]]) == 0
    assert meta == {"use_camera": True, "use_lidar": False, "use_radar": True, "use_map": False, "use_external": True}


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (one(vx=np.nan), "NaN or infinity"),
        (one(x=np.inf), "NaN or infinity"),
        (one()._replace(scores=np.array([np.nan])), "NaN or infinity"),
        (one(dz=0.0), "size"),
        (one()._replace(labels=np.array([10])), "10 classes"),
        (one()._replace(scores=np.zeros(2)), "n scores"),
        (one()._replace(boxes=np.zeros((1, 7))), "rows of 9"),
    ],
    ids=["nan velocity", "infinite x", "nan score", "flat", "label", "scores", "columns"],
)
def test_an_unusable_detection_is_refused_with_its_sample_and_nothing_is_written(infos, tmp_path, bad, what):
    found = [one(), bad, *[EMPTY] * (len(infos) - 2)]
    with pytest.raises(EvaluationError, match=infos[1]["token"]) as raised:
        write_submission(found, infos, tmp_path / "results.json")
    assert what in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_writing_leaves_the_former_submission(infos, tmp_path):
    path = write_submission([EMPTY] * len(infos), infos, tmp_path / "results.json")
    before = path.read_bytes()
    with pytest.raises(EvaluationError):
        write_submission([one(x=np.nan)] * len(infos), infos, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_missing_results_are_counted(infos, tmp_path):
    with pytest.raises(EvaluationError, match=rf"2 samples.*{len(infos)}"):
        write_submission([EMPTY] * 2, infos, tmp_path / "results.json")


def test_a_class_that_nuscenes_does_not_evaluate_is_named(infos, tmp_path):
    with pytest.raises(EvaluationError, match="no class tram"):
        write_submission([EMPTY] * len(infos), infos, tmp_path / "results.json", ["car", "tram"])
