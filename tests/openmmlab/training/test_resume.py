"""A run that was stopped anywhere goes on bit for bit; a damaged checkpoint is named and the one before it used."""

from __future__ import annotations

import pytest
from checkpoint_differences import differences

OPTIONS = {
    "plain": (),
    "average and accumulation over 4": (
        "ema_config.decay=0.9",
        "ema_config.ramp=5",
        "optimizer_config.cumulative_iters=4",
    ),
    "scaled loss, two workers": (
        "optimizer_config.type=Fp16OptimizerHook",
        "optimizer_config.loss_scale=dynamic",
        "data.workers_per_gpu=2",
        "ema_config.decay=0.9",
        "ema_config.ramp=5",
    ),
    "learning rate by iteration": ("lr_config.by_epoch=False",),
}


@pytest.fixture(params=OPTIONS, ids=str)
def options(request):
    return ("--cfg-options", *OPTIONS[request.param])


def continued_from(trainer, whole, name, options):
    """The final checkpoint of a run that begins with the checkpoint ``name`` of the uninterrupted one."""
    trainer.run("--work-dir", f"from_{name}", "--resume", f"{whole}/{name}", *options)
    return trainer.final(f"from_{name}")


def test_every_checkpoint_inside_and_after_epochs_leads_to_the_same_end(trainer, options):
    options = (*options, "checkpoint_config.iter_interval=1", "checkpoint_config.max_keep_ckpts=0")
    trainer.run("--work-dir", "whole", *options)
    end = trainer.final("whole")
    losses = {record["step"]: record["loss"] for record in trainer.records("whole")}
    assert sorted(losses) == list(range(1, 19))
    for name in ("epoch_0_iter_1.pth", "epoch_0_iter_5.pth", "epoch_1.pth", "epoch_1_iter_3.pth", "epoch_2_iter_2.pth"):
        assert differences(continued_from(trainer, "whole", name, options), end) == []
        resumed = trainer.records(f"from_{name}")
        assert {record["step"]: record["loss"] for record in resumed} == {
            step: losses[step] for step in range(resumed[0]["step"], 19)
        }


def test_two_runs_are_the_same_and_another_seed_another(trainer):
    for work_dir, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        trainer.run("--work-dir", work_dir, "--seed", seed)
    assert differences(trainer.final("a"), trainer.final("b")) == []
    assert differences(trainer.final("a")["state_dict"], trainer.final("c")["state_dict"]) != []


def test_the_number_of_workers_changes_nothing(trainer):
    trainer.run("--work-dir", "none")
    trainer.run("--work-dir", "three", "--cfg-options", "data.workers_per_gpu=3")
    assert differences(trainer.final("none")["state_dict"], trainer.final("three")["state_dict"]) == []


def damaged(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(trainer):
    options = ("--cfg-options", "checkpoint_config.iter_interval=2")
    trainer.run("--work-dir", "run", *options)
    end = trainer.final("run")
    folder = trainer.folder / "run"
    damaged(folder / "epoch_3.pth")
    (folder / "epoch_2_iter_4.pth").write_bytes(b"PK\x03\x04 and no more")
    said = trainer.run("--work-dir", "run", "--resume", "auto", *options)
    assert "epoch_3.pth is damaged or incomplete" in said
    assert "epoch_2_iter_4.pth is damaged or incomplete" in said
    assert "Goes on from epoch 3, iteration 2" in said
    assert differences(trainer.final("run"), end) == []
    assert [record["step"] for record in trainer.records("run")] == list(range(1, 19))


def test_all_checkpoints_damaged_is_an_error_and_not_a_new_beginning(trainer):
    trainer.run("--work-dir", "run")
    for path in (trainer.folder / "run").glob("epoch_*.pth"):
        damaged(path)
    said = trainer.run("--work-dir", "run", "--resume", status=2)
    assert said.splitlines()[-1] == "racdino: Every checkpoint in run is damaged: move them away to begin anew."


def test_auto_finds_the_newest_run_of_the_config_or_begins(trainer):
    said = trainer.run("--resume", "auto", "--cfg-options", "total_epochs=1")
    assert "There is no checkpoint in outputs/config to resume: a new run begins." in said
    (run,) = (trainer.folder / "outputs" / "config").iterdir()
    trainer.run("--resume", "auto", "--cfg-options", "total_epochs=2")
    assert [path.name for path in (trainer.folder / "outputs" / "config").iterdir()] == [run.name]
    assert (run / "epoch_2.pth").is_file()


def test_a_finished_run_says_so_and_ends_well(trainer):
    trainer.run("--work-dir", "run")
    before = (trainer.folder / "run" / "epoch_3.pth").stat().st_mtime_ns
    trainer.run("--work-dir", "run", "--resume")
    assert (trainer.folder / "run" / "epoch_3.pth").stat().st_mtime_ns == before
