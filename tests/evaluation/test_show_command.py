"""racdino/openmmlab/show.py: from config and checkpoint to pictures, or to one sentence and a status."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest

pytest.importorskip("mmdet3d", reason="needs the OpenMMLab packages of the pinned environment")

from racdino.data.info import read_infos
from racdino.openmmlab.show import choose, main


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def alts(page) -> list[str]:
    return re.findall(r'alt="([^"]*)"', page.read_text())


def test_predictions_and_truth_make_a_picture_each_and_one_page(config, checkpoint, rendered, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(config(), checkpoint, "--out", out) == 0
    assert capsys.readouterr().out.strip() == str(out / "index.html")
    infos = sorted(read_infos(rendered / "nuscenes_infos_val_mini_sweep.pkl"), key=lambda info: info["timestamp"])
    names = [f"{number:05d}_{info['token'][:8]}.png" for number, info in enumerate(infos)]
    assert sorted(path.name for path in out.iterdir()) == [*names, "index.html"]
    assert cv2.imread(str(out / names[0])).shape == (2 * 360 + 28, 3 * 640 + 720, 3)
    assert len(alts(out / "index.html")) == 7 * len(infos)
    visible = np.sum((infos[0]["num_lidar_pts"] + infos[0]["num_radar_pts"]) > 0)
    assert alts(out / "index.html")[0] == f"CAM_FRONT_LEFT with {visible} detections, {visible} true boxes"
    text = (out / "index.html").read_text()
    assert "Synthetic data (racdino data synthesize), not nuScenes." in text
    assert "epoch_7.pth is of epoch 7." in text


def test_detections_below_the_score_are_left_out(config, checkpoint, tmp_path):
    assert run(config(), checkpoint, "--out", tmp_path, "--samples", 1, "--score", 1.5) == 0
    assert alts(tmp_path / "index.html")[0].startswith("CAM_FRONT_LEFT with 0 detections")


def test_the_truth_is_drawn_without_a_model(config, tmp_path):
    out = tmp_path / "out"
    model = ("--cfg-options", "model.type=NoSuchModel")
    assert run(config(), "--truth", "--out", out, "--samples", 1, "--split", "train", *model) == 0
    assert re.fullmatch(r"CAM_FRONT_LEFT with \d+ true boxes", alts(out / "index.html")[0])
    assert len(list(out.glob("*.png"))) == 1


def test_the_pixels_of_a_box_are_where_its_object_was_rendered(config, rendered, tmp_path):
    """The renderer and the drawing share no code: inside a near box's outline the picture is not what is beside it."""
    from mmcv import Config

    from racdino.openmmlab.inference import dataset_of
    from racdino.openmmlab.show import load_sample
    from racdino.show.wireframe import corners, project

    dataset = dataset_of(Config.fromfile(str(config())), "val")
    checked = 0
    for index in range(len(dataset)):
        sample = load_sample(dataset, index, None, 0)
        front = sample.lidar2img[0]
        points = project(corners(sample.truth.boxes), front)
        for box in points[np.argsort(np.linalg.norm(sample.truth.boxes[:, :2], axis=1))][:6]:
            if (box[:, 2] < 1).any():
                continue
            pixels = box[:, :2] / box[:, 2:]
            low, high = np.floor(pixels.min(0)).astype(int), np.ceil(pixels.max(0)).astype(int)
            size = high - low
            if (low < size).any() or (high + size > [640, 360]).any() or size.min() < 12:
                continue
            image = sample.images[0].astype(float)
            inside = image[low[1] : high[1], low[0] : high[0]].mean((0, 1))
            beside = image[low[1] : high[1], low[0] - size[0] : low[0]].mean((0, 1))
            checked += 1
            assert np.abs(inside - beside).max() > 4
    assert checked > 0


@pytest.mark.parametrize(
    ("available", "count", "chosen"), [(9, 3, [0, 4, 8]), (2, 8, [0, 1]), (5, 1, [0]), (3, 3, [0, 1, 2])]
)
def test_samples_are_spread_over_the_data_set(available, count, chosen):
    assert choose(available, count) == chosen


def test_a_detection_that_is_not_finite_is_refused(config, checkpoint, tmp_path, capsys):
    assert run(config(nan=True), checkpoint, "--out", tmp_path / "out") == 1
    assert "NaN or infinity" in capsys.readouterr().err
    assert not (tmp_path / "out/index.html").exists()


def test_a_missing_image_and_a_missing_checkpoint_are_named(config, rendered, tmp_path, capsys):
    assert run(config(), "--out", tmp_path / "out") == 1
    assert "Which checkpoint" in capsys.readouterr().err
    image = max((rendered / "samples/CAM_BACK").glob("*.jpg"))
    hidden = image.rename(image.with_suffix(".hidden"))
    try:
        statuses = [run(config(), "--truth", "--out", tmp_path / split, "--split", split) for split in ("train", "val")]
    finally:
        hidden.rename(image)
    assert sorted(statuses) == [0, 1]
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(rf"racdino show: Sample \w+ cannot be drawn: .*{re.escape(image.name)}.*\.", error)
