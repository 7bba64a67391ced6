"""The devkit loads a synthetic data set as it loads nuScenes."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from nuscenes import NuScenes
from nuscenes.eval.detection.utils import category_to_detection_name, detection_name_to_rel_attributes
from nuscenes.utils.splits import mini_train, mini_val

from racdino.synthetic.parameters import Parameters

TABLES_OF = {  # field -> table it names
    "scene_token": "scene", "sample_token": "sample", "log_token": "log", "instance_token": "instance",
    "category_token": "category", "visibility_token": "visibility", "ego_pose_token": "ego_pose",
    "calibrated_sensor_token": "calibrated_sensor", "sensor_token": "sensor",
    "first_sample_token": "sample", "last_sample_token": "sample",
    "first_annotation_token": "sample_annotation", "last_annotation_token": "sample_annotation",
}  # fmt: skip


def test_every_link_resolves(nusc: NuScenes) -> None:
    for table in nusc.table_names:
        tokens = {record["token"] for record in getattr(nusc, table)}
        assert len(tokens) == len(getattr(nusc, table)), f"{table} has a token twice"
        for record in getattr(nusc, table):
            for field in ("prev", "next"):
                assert record.get(field, "") in tokens | {""}
            for field, other in TABLES_OF.items():
                if field in record:
                    nusc.get(other, record[field])
            for name in record.get("attribute_tokens", []):
                nusc.get("attribute", name)


@pytest.mark.parametrize("table", ["sample", "sample_data", "sample_annotation"])
def test_chains_are_symmetric_and_run_forward_in_time(nusc: NuScenes, table: str) -> None:
    for record in getattr(nusc, table):
        if record["next"]:
            after = nusc.get(table, record["next"])
            assert after["prev"] == record["token"]
            times = [r.get("timestamp") or nusc.get("sample", r["sample_token"])["timestamp"] for r in (record, after)]
            assert times[0] < times[1]


def test_scenes_carry_official_names_of_both_splits_and_say_that_they_are_synthetic(nusc: NuScenes, root: Path) -> None:
    names = {scene["name"] for scene in nusc.scene}
    assert names & set(mini_train)
    assert names & set(mini_val)
    assert names <= {*mini_train, *mini_val}
    assert all("SYNTHETIC" in scene["description"] for scene in nusc.scene)
    assert "synthetic" in (root / "SYNTHETIC.md").read_text()


def test_every_file_is_there_and_images_have_the_size_of_their_records(
    nusc: NuScenes, root: Path, tiny: Parameters
) -> None:
    named = {record["filename"] for record in nusc.sample_data}
    present = {str(path.relative_to(root)) for folder in ("samples", "sweeps") for path in (root / folder).glob("*/*")}
    assert named == present
    for record in nusc.sample_data:
        if record["sensor_modality"] == "camera":
            image = cv2.imread(str(root / record["filename"]))
            assert image.shape == (record["height"], record["width"], 3) == (*tiny.image_size[::-1], 3)


def test_rates_are_nuscenes_own(nusc: NuScenes) -> None:
    times = defaultdict(list)
    for record in nusc.sample_data:
        times[record["channel"], nusc.get("sample", record["sample_token"])["scene_token"]].append(record["timestamp"])
    assert len({channel for channel, _ in times}) == 12
    for (channel, _), values in times.items():
        steps = {b - a for a, b in pairwise(sorted(values))}
        assert steps == ({76_923} if channel.startswith("RADAR") else {250_000}), channel


def test_key_frames_lie_close_to_their_sample(nusc: NuScenes) -> None:
    for sample in nusc.sample:
        assert len(sample["data"]) == 12
        for channel, name in sample["data"].items():
            apart = nusc.get("sample_data", name)["timestamp"] - sample["timestamp"]
            assert abs(apart) <= 50_000, channel
            assert channel != "LIDAR_TOP" or apart == 0


def test_every_class_has_an_annotation_in_each_split_and_the_attributes_that_the_devkit_asks(nusc: NuScenes) -> None:
    classes = defaultdict(set)
    for record in nusc.sample_annotation:
        scene = nusc.get("scene", nusc.get("sample", record["sample_token"])["scene_token"])
        name = category_to_detection_name(record["category_name"])
        assert name is not None
        classes[scene["name"]].add(name)
        attributes = [nusc.get("attribute", token)["name"] for token in record["attribute_tokens"]]
        allowed = detection_name_to_rel_attributes(name)
        assert (len(attributes) == 1 and attributes[0] in allowed) or attributes == allowed == []
    assert all(len(found) == 10 for found in classes.values())


def test_instances_count_their_annotations(nusc: NuScenes) -> None:
    for instance in nusc.instance:
        record, count = nusc.get("sample_annotation", instance["first_annotation_token"]), 1
        while record["next"]:
            record, count = nusc.get("sample_annotation", record["next"]), count + 1
        assert (record["token"], count) == (instance["last_annotation_token"], instance["nbr_annotations"])


def test_the_ego_drives_on_the_map(nusc: NuScenes) -> None:
    for scene in nusc.scene:
        mask = nusc.get("map", nusc.get("log", scene["log_token"])["map_token"])["mask"]
        sample = nusc.get("sample", scene["first_sample_token"])
        pose = nusc.get("ego_pose", nusc.get("sample_data", sample["data"]["LIDAR_TOP"])["ego_pose_token"])
        x, y, _ = pose["translation"]
        assert mask.mask().shape == (4000, 4000)
        px, py = mask.to_pixel_coords(x, y)
        assert mask.mask()[py, px] == 255
        assert mask.mask()[0, 0] == 0
        assert np.mean(mask.mask() > 0) < 0.5
