"""racdino/evaluation/nuscenes.py: the numbers are the devkit's, and a split is evaluated whole or not at all."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.detection.evaluate import DetectionEval

from racdino.evaluation import CLASS_NAMES, EvaluationError
from racdino.evaluation.detections import Found, truth
from racdino.evaluation.nuscenes import SUBMISSION, SUMMARY, eval_set_of, evaluate, evaluate_submission

EMPTY = Found(np.zeros((0, 9)), np.zeros(0), np.zeros(0, np.int64))


def perfect(infos):
    return [truth(info, CLASS_NAMES) for info in infos]


def test_the_ground_truth_as_detections_scores_one(root, infos, tmp_path):
    metrics = evaluate(perfect(infos), infos, root, "v1.0-mini", "mini_val", tmp_path)
    assert metrics.mean_ap == pytest.approx(1, abs=1e-12)
    assert list(metrics.class_ap.values()) == pytest.approx([1] * 10, abs=1e-12)
    assert metrics.nds > 0.99  # the tilt of the LiDAR costs a little orientation
    assert metrics.errors["mATE"] == pytest.approx(0, abs=1e-5)
    assert metrics.errors["mASE"] == pytest.approx(0, abs=1e-5)
    assert metrics.errors["mAAE"] == 0


def test_worse_detections_have_the_numbers_of_a_direct_call_of_the_devkit(root, nusc, infos, tmp_path):
    random = np.random.default_rng(0)
    found = []
    for boxes, _, labels in perfect(infos):
        kept = random.uniform(size=len(boxes)) < 0.8
        noisy = boxes + random.normal(size=boxes.shape) * [0.5, 0.5, 0.1, 0, 0, 0, 0.1, 0.3, 0.3]
        found.append(Found(noisy[kept], random.uniform(size=kept.sum()), labels[kept]))
    metrics = evaluate(found, infos, root, "v1.0-mini", "mini_val", tmp_path)
    config = config_factory("detection_cvpr_2019")
    direct = DetectionEval(
        nusc, config, str(tmp_path / SUBMISSION), "mini_val", str(tmp_path / "direct"), verbose=False
    )
    summary = direct.main(render_curves=False)
    assert metrics.nds == summary["nd_score"]
    assert metrics.mean_ap == summary["mean_ap"]
    assert 0.1 < metrics.mean_ap < 1
    assert metrics.errors["mAVE"] == summary["tp_errors"]["vel_err"]
    assert metrics.class_errors["car"]["AOE"] == summary["label_tp_errors"]["car"]["orient_err"]
    assert metrics.class_ap_by_distance["bus"][2.0] == summary["label_aps"]["bus"][2.0]
    ours, theirs = (json.loads(path.read_text()) for path in (tmp_path / SUMMARY, tmp_path / "direct" / SUMMARY))
    del ours["eval_time"], theirs["eval_time"]
    np.testing.assert_equal(ours, theirs)


def test_no_detection_at_all_scores_what_one_wrong_box_does(root, infos, tmp_path):
    nothing = evaluate([EMPTY] * len(infos), infos, root, "v1.0-mini", "mini_val", tmp_path / "a")
    far = Found(np.array([[-29.0, -29, 0, 1, 1, 1, 0, 0, 0]]), np.array([0.9]), np.array([0]))
    wrong = evaluate([far, *[EMPTY] * (len(infos) - 1)], infos, root, "v1.0-mini", "mini_val", tmp_path / "b")
    np.testing.assert_equal(nothing.as_json(), wrong.as_json())
    assert (nothing.nds, nothing.mean_ap) == (0, 0)


@pytest.fixture
def val_infos(infos):
    return list(infos)


def test_a_part_of_the_split_is_refused_with_how_much_is_missing(root, val_infos, tmp_path):
    with pytest.raises(EvaluationError, match=r"whole of mini_val only.*lacks 2 of its 6 samples"):
        evaluate(perfect(val_infos[2:]), val_infos[2:], root, "v1.0-mini", "mini_val", tmp_path)


def test_samples_of_another_split_are_refused(root, infos, tmp_path):
    with pytest.raises(EvaluationError, match="6 samples that are not in it"):
        evaluate(perfect(infos), infos, root, "v1.0-mini", "mini_train", tmp_path)


def test_the_split_of_infos_is_that_of_their_scenes(infos):
    assert eval_set_of(infos, "v1.0-mini") == "mini_val"
    assert eval_set_of([{"scene_name": "scene-0061"}], "v1.0-mini") == "mini_train"
    assert eval_set_of([{"scene_name": "scene-0001"}], "v1.0-trainval") == "train"
    assert eval_set_of([{"scene_name": "scene-0003"}], "v1.0-trainval") == "val"


@pytest.mark.parametrize(
    ("scenes", "version", "what"),
    [
        (["scene-0103", "scene-0061"], "v1.0-mini", "not all of one official split"),
        (["scene-0077"], "v1.0-test", "--results-only"),
        (["my-scene"], "v1.0-trainval", "my-scene"),
    ],
)
def test_scenes_without_an_official_split_are_named(scenes, version, what):
    with pytest.raises(EvaluationError, match=what):
        eval_set_of([{"scene_name": scene} for scene in scenes], version)


def test_missing_results_tables_and_maps_are_named(root, infos, tmp_path):
    with pytest.raises(EvaluationError, match=r"no results at .*none\.json"):
        evaluate_submission(tmp_path / "none.json", root, "v1.0-mini", "mini_val")
    with pytest.raises(EvaluationError, match=r"sample_annotation\.json"):
        evaluate(perfect(infos), infos, tmp_path, "v1.0-mini", "mini_val", tmp_path / "out")
    shutil.copytree(root, tmp_path / "copy")
    (tmp_path / "copy/maps/m.png").unlink()
    with pytest.raises(EvaluationError, match=r"maps/m\.png"):
        evaluate(perfect(infos), infos, tmp_path / "copy", "v1.0-mini", "mini_val", tmp_path / "out")
    with pytest.raises(EvaluationError, match="no split val"):
        evaluate(perfect(infos), infos, root, "v1.0-mini", "val", tmp_path / "out")


def test_table_and_json_tell_the_same_and_json_is_strict(root, infos, tmp_path):
    metrics = evaluate(perfect(infos), infos, root, "v1.0-mini", "mini_val", tmp_path)
    content = json.loads(json.dumps(metrics.as_json(), allow_nan=False))
    assert content["mAP"] == pytest.approx(1, abs=1e-12)
    assert content["classes"]["traffic_cone"]["AOE"] is None
    assert math.isnan(metrics.class_errors["traffic_cone"]["AOE"])
    lines = metrics.table().splitlines()
    assert lines[0].startswith("mini_val, 6 samples: NDS 0.9")
    cone = next(line for line in lines if line.startswith("traffic_cone"))
    assert cone.split()[1] == "1.000"
    assert cone.split()[-3:] == ["-", "-", "-"]
    assert len(lines) == 4 + 10
