"""Two processes train like one with the same global batch, and only process 0 of all machines writes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from checkpoint_differences import differences

# The stand-in draws one number per process from torch's global generator, which no launcher could make agree.
KEYED = ("--cfg-options", "model.noise=0", "ema_config.decay=0.9", "ema_config.ramp=5")
ROOT = Path(__file__).resolve().parents[3]


def losses(trainer, work_dir):
    return {record["step"]: record["loss"] for record in trainer.records(work_dir)}


def test_two_processes_have_the_losses_and_weights_of_one(trainer):
    trainer.run("--work-dir", "one", *KEYED, "batch_size=4")
    trainer.run_processes(2, "--work-dir", "two", *KEYED, "batch_size=2")
    one, two = losses(trainer, "one"), losses(trainer, "two")
    assert len(one) == 18
    assert one == pytest.approx(two, abs=1e-5)
    ends = [trainer.final(work_dir)["state_dict"] for work_dir in ("one", "two")]
    for name, value in ends[0].items():  # batch norm's statistics too
        torch.testing.assert_close(value, ends[1][name], rtol=0, atol=1e-5, msg=name)


def test_two_processes_resume_bit_for_bit(trainer):
    options = (
        "--cfg-options",
        "batch_size=2",
        "checkpoint_config.iter_interval=2",
        "optimizer_config.cumulative_iters=4",
    )
    trainer.run_processes(2, "--work-dir", "whole", *options)
    trainer.run_processes(2, "--work-dir", "rest", "--resume", "whole/epoch_1_iter_4.pth", *options)
    assert differences(trainer.final("rest"), trainer.final("whole")) == []


def test_a_run_goes_on_with_another_number_of_processes_and_the_same_global_batch(trainer):
    trainer.run("--work-dir", "one", *KEYED, "batch_size=4", "checkpoint_config.iter_interval=2")
    trainer.run_processes(2, "--work-dir", "rest", "--resume", "one/epoch_1_iter_2.pth", *KEYED, "batch_size=2")
    one = losses(trainer, "one")
    assert losses(trainer, "rest") == pytest.approx({step: one[step] for step in range(9, 19)}, abs=1e-5)
    said = trainer.run("--work-dir", "no", "--resume", "one/epoch_1_iter_2.pth", *KEYED, "batch_size=2", status=2)
    assert "samples per iteration (batch_size times processes): 4 in the checkpoint, 2 here" in said


def test_a_refusal_in_process_0_ends_every_process_and_is_said_once(trainer):
    (trainer.folder / "taken").write_text("a file")
    trainer.run_processes(2, "--work-dir", "taken", status=2)
    said = "".join(path.read_text() for path in trainer.folder.glob("output_*.txt"))
    assert said.count("The work dir taken cannot be written") == 1
    assert "Traceback" not in said


def launch(trainer, *torchrun, options=()):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}", "OMP_NUM_THREADS": "1"}
    environment["CUDA_VISIBLE_DEVICES"] = ""
    environment.pop("RACDINO_OUTPUTS", None)
    command = [sys.executable, "-m", "racdino.training.torchrun", *torchrun, "-m", "run_stand_ins", "config.py", *KEYED]
    return subprocess.Popen(
        [*command, "batch_size=2", *options], cwd=trainer.folder, env=environment, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_two_nodes_on_one_host_write_one_work_dir_and_train_like_one_process(trainer, free_port):
    trainer.run("--work-dir", "one", *KEYED, "batch_size=4")
    meeting = ("--nnodes", "2", "--nproc_per_node", "1", "--master_addr", "127.0.0.1", "--master_port", free_port)
    nodes = [launch(trainer, *meeting, "--node_rank", str(node)) for node in (0, 1)]
    said = [node.communicate()[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    (run,) = (trainer.folder / "outputs" / "config").iterdir()  # one run, of one name
    assert {path.name for path in run.iterdir()} == {path.name for path in (trainer.folder / "one").iterdir()}
    assert losses(trainer, run) == pytest.approx(losses(trainer, "one"), abs=1e-5)
    assert [start["processes"] for start in trainer.records(run, "start")] == [2]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 75)])
def test_torchrun_ends_with_the_status_of_its_processes(trainer, number, status):
    node = launch(trainer, "--standalone", "--nproc_per_node", "2", options=("model.seconds=0.3", "total_epochs=99"))
    runs = trainer.folder / "outputs" / "config"
    while not list(runs.glob("*/train.log.json")):
        assert node.poll() is None, node.stderr.read()
        time.sleep(0.1)
    time.sleep(1)
    node.send_signal(number)
    said = node.communicate()[1]
    assert node.returncode == status, said
    assert len(list(runs.glob("*/latest.pth"))) == 1
    assert "Traceback" not in said
