"""The official evaluation runs on both splits, and the truth scores one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from nuscenes import NuScenes
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.detection.evaluate import DetectionEval
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.utils.splits import create_splits_scenes


@pytest.mark.parametrize("split", ["mini_train", "mini_val"])
def test_the_truth_as_submission_scores_one(nusc: NuScenes, tmp_path: Path, split: str) -> None:
    results = {}
    for sample in nusc.sample:
        if nusc.get("scene", sample["scene_token"])["name"] not in create_splits_scenes()[split]:
            continue
        results[sample["token"]] = boxes = []
        for token in sample["anns"]:
            record = nusc.get("sample_annotation", token)
            if record["num_lidar_pts"] + record["num_radar_pts"] == 0:
                continue
            names = [nusc.get("attribute", name)["name"] for name in record["attribute_tokens"]]
            boxes.append(
                {
                    "sample_token": sample["token"],
                    "translation": record["translation"],
                    "size": record["size"],
                    "rotation": record["rotation"],
                    "velocity": np.nan_to_num(nusc.box_velocity(token))[:2].tolist(),
                    "detection_name": category_to_detection_name(record["category_name"]),
                    "detection_score": 0.9,
                    "attribute_name": names[0] if names else "",
                }
            )
    submission = tmp_path / "results.json"
    modality = {f"use_{name}": False for name in ("camera", "lidar", "radar", "map", "external")}
    submission.write_text(json.dumps({"meta": modality, "results": results}))
    config = config_factory("detection_cvpr_2019")
    metrics, _ = DetectionEval(nusc, config, str(submission), split, str(tmp_path), verbose=False).evaluate()
    assert metrics.mean_ap == pytest.approx(1.0, abs=1e-6)
    assert metrics.nd_score > 0.999
