"""racdino/show/curves.py: what was logged is drawn, whatever the run went through."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from racdino.show.curves import draw_curves, read_log, series


def write(path: Path, *records: dict, tail: str = "") -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + tail)
    return path


def training(epoch: int, iteration: int, loss: float, **more: object) -> dict:
    return {"mode": "train", "epoch": epoch, "iter": iteration, "lr": 1e-4, "loss": loss, "loss_cls": loss / 2, **more}


HEAD = {"env_info": "torch 2.0.0", "config": "..."}
RUN = [training(epoch, iteration, 9 - epoch - iteration / 100) for epoch in (1, 2, 3) for iteration in (50, 100)]
VAL = [
    {"mode": "val", "epoch": epoch, "iter": 6, "lr": 1e-4, "pts_bbox_NuScenes/NDS": 0.1 * epoch, "mAP": 0.05 * epoch}
    for epoch in (1, 3)
]


def test_the_picture_shows_curves(tmp_path):
    output = tmp_path / "curves/curves.png"
    draw_curves(write(tmp_path / "log.json", HEAD, *RUN, *VAL), output)
    image = cv2.imread(str(output))
    assert image.shape[0] >= 300
    assert image.shape[1] >= 900
    dark = (image < 60).all(-1)
    third = image.shape[1] // 3
    assert dark[:, :third].sum() > dark[:, third : 2 * third].sum()  # the loss is a thick black line
    assert [path.name for path in output.parent.iterdir()] == ["curves.png"]


def test_a_different_log_is_a_different_picture(tmp_path):
    pictures = []
    for name, evaluations in (("a", VAL), ("b", VAL[:1])):
        draw_curves(write(tmp_path / f"{name}.json", HEAD, *RUN, *evaluations), tmp_path / f"{name}.png")
        pictures.append(cv2.imread(str(tmp_path / f"{name}.png")))
    left, middle, right = np.array_split((pictures[0] != pictures[1]).any(-1), 3, axis=1)
    assert not left.any()
    assert not middle.any()
    assert right.any()


def test_metrics_are_found_with_and_without_a_prefix():
    assert series(VAL, "NDS") == pytest.approx([0.1, 0.3])
    assert series(VAL, "mAP") == pytest.approx([0.05, 0.15])


def test_nan_infinity_and_missing_values_are_gaps_in_an_otherwise_whole_picture(tmp_path):
    broken = [*RUN[:2], training(2, 50, math.nan), training(2, 100, math.inf), {**RUN[4], "loss": None}, RUN[5]]
    log = write(tmp_path / "log.json", HEAD, *broken)
    values = series(read_log(log), "loss")
    assert [math.isnan(value) for value in values] == [False, False, True, True, True, False]
    draw_curves(log, tmp_path / "gaps.png")
    image = cv2.imread(str(tmp_path / "gaps.png")).astype(int)
    red = (image[..., 2] > 200) & (image[..., 0] < 60) & (image[..., 1] < 60)
    assert red[:, : image.shape[1] // 3].sum() > 20


def test_a_line_cut_off_by_a_kill_is_passed_over(tmp_path):
    log = write(tmp_path / "log.json", HEAD, *RUN, tail='{"mode": "train", "epoch": 4, "it')
    assert len(read_log(log)) == len(RUN)
    draw_curves(log, tmp_path / "cut.png")


def test_of_an_iteration_logged_again_after_a_resumption_the_later_record_counts(tmp_path):
    again = [training(2, 25, 1.6), training(2, 50, 1.5)]  # with another interval
    log = write(tmp_path / "log.json", HEAD, *RUN[:4], {}, HEAD, *again, *RUN[3:])
    assert series(read_log(log), "loss") == [RUN[0]["loss"], RUN[1]["loss"], 1.6, 1.5, *(r["loss"] for r in RUN[3:])]


@pytest.mark.parametrize("records", [[], [HEAD], [*VAL]], ids=["empty", "head only", "evaluations only"])
def test_a_log_without_training_is_named_and_nothing_is_written(tmp_path, records):
    log = write(tmp_path / "log.json", *records)
    with pytest.raises(ValueError, match=r"log\.json holds no training iteration"):
        draw_curves(log, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
