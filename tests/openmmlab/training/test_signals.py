"""SIGTERM and SIGUSR1 end a run with a whole checkpoint and a status; no kill changes what a run ends with."""

from __future__ import annotations

import random
import signal
import time

import pytest
from checkpoint_differences import differences

SLOWLY = (
    "--cfg-options",
    "model.seconds=0.02",
    "ema_config.decay=0.9",
    "ema_config.ramp=5",
    "optimizer_config.cumulative_iters=4",
)


def wait_for(found, seconds=60, pause=0.005):
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(pause)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 75), (signal.SIGINT, 130)])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_signal_ends_the_run_after_its_iteration_with_a_checkpoint(trainer, number, status, workers):
    options = (*SLOWLY, f"data.workers_per_gpu={workers}")
    trainer.run("--work-dir", "whole", *options)
    run = trainer.start("--work-dir", "run", *options)
    log = trainer.folder / "run" / "train.log.json"
    wait_for(lambda: log.exists() and log.read_text().count("train") >= 3)
    run.kill(number)
    assert run.wait() == status, run.said
    name = signal.Signals(number).name
    assert f"{name}: stopped at epoch" in run.said.splitlines()[-1]
    assert (trainer.folder / "run" / "latest.pth").exists()
    trainer.run("--work-dir", "run", "--resume", *options)
    assert differences(trainer.final("run"), trainer.final("whole")) == []


def test_a_signal_before_the_first_iteration_ends_the_run_too(trainer):
    run = trainer.start("--work-dir", "run", "--cfg-options", "model.seconds=0.02")
    wait_for(lambda: "Begins from the beginning" in run.said)
    run.kill(signal.SIGTERM)
    assert run.wait() == 143


def is_saving(folder):
    return any(path.name.endswith(".pth.part") for path in folder.iterdir())


@pytest.mark.slow
def test_twenty_kills_end_with_the_same_weights(trainer, capsys):
    """KILL and TERM in turn, a random time after a random iteration; six of them while a checkpoint is half-written."""
    options = ("model.seconds=0.01", "ema_config.decay=0.9", "ema_config.ramp=5", "optimizer_config.cumulative_iters=3")
    options = ("--cfg-options", *options, "data.workers_per_gpu=2", "checkpoint_config.iter_interval=1")
    trainer.run("--work-dir", "whole", *options)
    end = trainer.final("whole")
    draw = random.Random(0)
    rows = []
    for kill in range(20):
        number = (signal.SIGKILL, signal.SIGTERM)[kill % 2]
        folder = trainer.folder / f"killed_{kill}"
        in_a_save = kill % 10 in (0, 1, 4)
        # A save lasts about a millisecond, so several must still come.
        log, after = folder / "train.log.json", draw.randrange(4 if in_a_save else 17)
        run = trainer.start("--work-dir", folder.name, *options)
        wait_for(lambda log=log, after=after: log.exists() and log.read_text().count('"train"') >= after)
        time.sleep(draw.uniform(0, 0.03))
        if in_a_save:
            wait_for(lambda folder=folder: is_saving(folder), pause=0.0001)
        run.kill(number)
        status = run.wait()
        half = is_saving(folder)
        trainer.run("--work-dir", folder.name, "--resume", *options)
        begun = trainer.records(folder.name, "start")[-1]["step"]
        same = not differences(trainer.final(folder.name), end)
        rows.append((kill + 1, signal.Signals(number).name, status, half, begun, same))
    with capsys.disabled():
        print("\nkill  signal   status  half-written  went on after iteration  same end")
        for kill, name, status, half, begun, same in rows:
            print(f"{kill:4}  {name}  {status:6}  {half!s:12}  {begun:23}  {same}")
    assert all(row[-1] for row in rows)
    assert all(row[2] == {"SIGKILL": -9, "SIGTERM": 143}[row[1]] for row in rows)
    assert any(row[3] for row in rows), "no kill hit a save"
