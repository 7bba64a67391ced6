"""Evaluations come when the config says, with the averaged weights, and leave no trace in what is trained."""

from __future__ import annotations

import json

import pytest
from checkpoint_differences import differences

EVALUATING = 'eval_config = dict(interval=2)\ncustom_imports = dict(imports=["fake_evaluation"])\n'
AVERAGE = ("--cfg-options", "ema_config.decay=0.9", "ema_config.ramp=1")


@pytest.fixture
def evaluating(trainer):
    trainer.run("--work-dir", "without", *AVERAGE)
    with trainer.config.open("a") as config:
        config.write(EVALUATING)
    return trainer


def metrics(trainer, epoch):
    return json.loads((trainer.folder / "run" / "eval" / f"epoch_{epoch}" / "metrics.json").read_text())


def test_it_comes_every_other_epoch_and_at_the_end_with_the_averages(evaluating):
    evaluating.run("--work-dir", "run", *AVERAGE)
    records = evaluating.records("run", "val")
    assert [(record["epoch"], record["step"], record["NDS"]) for record in records] == [(2, 12, 0.25), (3, 18, 0.25)]
    averages = evaluating.final("run")["state_dict"]
    assert metrics(evaluating, 3)["sum"] == pytest.approx(float(sum(v.double().sum() for v in averages.values())))
    assert (evaluating.folder / "run" / "curves.png").is_file()


def test_it_changes_nothing_of_the_training(evaluating):
    evaluating.run("--work-dir", "run", *AVERAGE)
    with_it, without = evaluating.final("run"), evaluating.final("without")
    del with_it["meta"]["config"], without["meta"]["config"]
    assert differences(with_it, without) == []


def test_an_evaluation_that_a_killed_run_did_not_get_to_is_made_up_for(evaluating):
    evaluating.run("--work-dir", "run", *AVERAGE)
    folder = evaluating.folder / "run"
    (folder / "eval" / "epoch_3" / "metrics.json").unlink()
    evaluating.run("--work-dir", "run", "--resume", *AVERAGE)
    assert metrics(evaluating, 3)["mAP"] == 0.5
