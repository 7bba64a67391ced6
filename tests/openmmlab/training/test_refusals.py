"""What training refuses is said in one sentence with a status of 2, or 1 once it ran, and nothing is half-written."""

from __future__ import annotations

import os
import pickle
import zipfile

import pytest
import torch

from racdino.training.checkpoints import write_checkpoint


def refusal(trainer, *arguments, status=2, **options):
    """The one sentence on stderr."""
    said = trainer.run(*arguments, status=status, **options)
    lines = [line for line in said.splitlines() if line.startswith("racdino: ")]
    assert "Traceback" not in said
    return lines[-1].removeprefix("racdino: ")


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("optimizer.lrr=1", "optimizer in the config has no lrr; near it: lr."),
        ("totl_epochs=1", "the config has no totl_epochs; near it: total_epochs."),
        ("optimizr.lr=1", "the config has no optimizr; near it: optimizer, optimizer_config."),
        ("data.train.samples.x=1", "data.train.samples is 24 and has no keys."),
        ("log_config.hooks.7.interval=1", "log_config.hooks in the config has no 7; there: 0."),
        ("total_epochs", "--cfg-options total_epochs is not of the form KEY=VALUE."),
    ],
)
def test_an_option_that_is_not_there_names_what_is(trainer, option, sentence):
    assert refusal(trainer, "--work-dir", "run", "--cfg-options", option).endswith(sentence)
    assert not (trainer.folder / "run").exists()


def test_options_reach_lists_classes_and_sections_that_are_not_in_the_config(trainer):
    options = ("log_config.hooks.0.interval=6", "model.dropout=0.5", "ema_config.decay=0.5", "seed=3", "total_epochs=1")
    trainer.run("--work-dir", "run", "--override", *options)  # as upstream calls it
    written = (trainer.folder / "run" / "config.py").read_text()
    assert "interval=6" in written
    assert "dropout=0.5" in written
    assert [record["step"] for record in trainer.records("run")] == [6]
    assert trainer.final("run", "epoch_1.pth")["average"]["updates"] == 6


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ('model["type"] = "RaCFromer"', "The config's model cannot be built: "),
        ('model["drop"] = 1', "The config's model cannot be built: StandInDetector: "),
        ('data["train"]["type"] = "Nothing"', "The config's data.train cannot be built: "),
        ('data["train"]["samples"] = 0', "The training set has no samples. Check data.train.ann_file."),
        ("batch_size = 0", "The config's batch_size, samples per process, is "),
        ("del total_epochs", "config.py has no total_epochs, so there is nothing to train by."),
        ('optimizer = dict(type="AdamX", lr=1)', "The config's optimizer cannot be built: "),
        ('optimizer_config = dict(type="Other")', "optimizer_config type='Other' is not known; known are "),
        ("checkpoint_config = dict(out_dir=1)", "checkpoint_config has out_dir; it takes "),
        ('lr_config = dict(policy="Nowhere")', "The config's hooks cannot be built: "),
        ('custom_hooks = [dict(type="NoHook")]', "The config's hooks cannot be built: "),
        ("1 / 0", "config.py does not load: ZeroDivisionError: division by zero."),
    ],
)
def test_a_config_that_cannot_be_trained_says_which_part(trainer, change, sentence):
    with trainer.config.open("a") as config:
        config.write(change + "\n")
    assert refusal(trainer, "--work-dir", "run").startswith(sentence)
    assert not (trainer.folder / "run").exists()


def test_a_second_run_in_the_same_folder_is_refused(trainer):
    trainer.run("--work-dir", "run")
    assert refusal(trainer, "--work-dir", "run") == (
        "run holds a run already (epoch_3.pth): continue it with --resume auto, or choose another --work-dir."
    )
    assert refusal(trainer, "--work-dir", "run", "--resume", "run/epoch_2.pth").startswith(
        "run holds epoch_3.pth, which is newer than run/epoch_2.pth: move it away"
    )


def test_checkpoints_that_this_run_cannot_go_on_from_are_refused(trainer):
    trainer.run("--work-dir", "run", "--cfg-options", "total_epochs=1")
    other = trainer.folder / "other.pth"
    write_checkpoint(other, {"state_dict": {"head.weight": torch.zeros(1, 8)}})
    resume = ("--work-dir", "new", "--resume")
    assert refusal(trainer, *resume, "other.pth").startswith("other.pth holds no state of a run to resume")
    assert refusal(trainer, *resume, "nowhere.pth") == "There is no checkpoint nowhere.pth to resume."
    checkpoint = "run/epoch_1.pth"
    assert "samples of the training set: 24 in the checkpoint, 16 here" in refusal(
        trainer, *resume, checkpoint, "--cfg-options", "data.train.samples=16"
    )
    assert "average of the weights: none in the checkpoint, one here" in refusal(
        trainer, *resume, checkpoint, "--cfg-options", "ema_config.decay=0.9"
    )
    assert "was trained with --seed 0: it cannot go on with 5" in refusal(trainer, *resume, checkpoint, "--seed", "5")
    assert not (trainer.folder / "new").exists()


class _Malicious:
    def __reduce__(self):
        return os.system, ("touch executed",)


@pytest.mark.parametrize("how", ["--resume", "load_from"])
def test_a_malicious_checkpoint_is_refused_and_not_run(trainer, how):
    with zipfile.ZipFile(trainer.folder / "bad.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"state_dict": _Malicious()}, protocol=2))
    arguments = ("--resume", "bad.pth") if how == "--resume" else ("--cfg-options", "load_from=bad.pth")
    said = refusal(trainer, "--work-dir", "run", *arguments)
    assert "bad.pth asks for posix.system, which no weights need: refused, nothing was executed" in said
    assert not (trainer.folder / "executed").exists()
    assert not (trainer.folder / "run").exists()


def test_initial_weights_say_how_much_of_them_is_used(trainer):
    weights = {
        "backbone.0.weight": torch.full((8, 6), 0.25),
        "backbone.1.weight": torch.ones(9),  # another shape
        "neck.lateral": torch.ones(3),
    }
    write_checkpoint(trainer.folder / "start.pth", {"state_dict": weights, "meta": {}})
    options = ("--cfg-options", "load_from=start.pth", "revise_keys=[(backbone,img_backbone)]", "optimizer.lr=0.")
    said = trainer.run("--work-dir", "run", *options)
    assert "start.pth: 1 tensors loaded into img_backbone" in said
    assert "1 differ in shape (img_backbone.1.weight, ...), 1 have no place in the model." in said
    assert trainer.final("run")["state_dict"]["img_backbone.0.weight"].unique().tolist() == [0.25]
    said = refusal(trainer, "--work-dir", "other", "--cfg-options", "load_from=start.pth")
    assert said.startswith(
        "Nothing in start.pth fits the model: it has backbone.0.weight, the model img_backbone.0.weight"
    )


def test_missing_initial_weights_name_the_command_that_fetches_them(trainer):
    name = "pretrain/cascade_mask_rcnn_r50_fpn_coco-20e_20e_nuim_20201009_124951-40963960.pth"
    said = refusal(trainer, "--work-dir", "run", "--cfg-options", f"load_from={name}")
    assert name in said
    assert "racdino weights fetch" in said


@pytest.mark.parametrize("first", [True, False])
def test_a_full_disk_is_one_sentence_and_leaves_whole_checkpoints(trainer, first):
    """A file may not grow beyond the limit, which stands for a disk that fills up."""
    if not first:
        trainer.run("--work-dir", "run", "--cfg-options", "total_epochs=1")
    said = refusal(trainer, "--work-dir", "run", "--resume", status=1, largest_file=12_000)
    name = "epoch_1.pth" if first else "epoch_2.pth"
    assert said.startswith(f"The checkpoint run/{name} cannot be written (File too large): mend that, then go on")
    left = {path.name for path in (trainer.folder / "run").glob("*.pth*")}
    assert left == (set() if first else {"epoch_1.pth", "latest.pth"})
    trainer.run("--work-dir", "run", "--resume")


def test_a_work_dir_that_cannot_be_made_is_told_before_training(trainer):
    (trainer.folder / "file").touch()
    assert refusal(trainer, "--work-dir", "file/run") == (
        "The work dir file/run cannot be written (Not a directory): choose another --work-dir."
    )


def test_gradients_that_stay_infinite_end_the_run_and_never_reach_the_weights(trainer):
    said = refusal(trainer, "--work-dir", "run", "--cfg-options", "model.fail_at=4", status=1)
    assert said.startswith("10 steps in a row had gradients that are not finite, the last at epoch 3, iteration 2")
    newest = trainer.final("run", "latest.pth")
    assert all(value.isfinite().all() for value in newest["state_dict"].values())
