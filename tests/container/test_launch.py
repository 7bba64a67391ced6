"""`racdino train` and `eval` become the scripts of the working directory, else ours; bad input is one sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from racdino import launch
from racdino.doctor import gpu_driver
from racdino.doctor.gpu_driver import Driver, Gpu

ROOT = Path(__file__).resolve().parents[2]
H100 = Gpu("NVIDIA H100", (9, 0))


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for name in ("train.py", "val.py"):
        (tmp_path / name).write_text("import json, os, sys; print(json.dumps([sys.argv, os.getpid()]))")
    (tmp_path / "my config.py").touch()
    return tmp_path


@pytest.fixture
def became(monkeypatch):
    lines: list[list[str]] = []
    monkeypatch.setattr(launch, "replace_process", lambda line: lines.append(list(line)) or 0)
    return lines


def gpus(monkeypatch, count: int) -> None:
    monkeypatch.setattr(gpu_driver, "probe", lambda: Driver(library=True, gpus=(H100,) * count))


@pytest.mark.parametrize("count", [0, 1])
def test_one_process_trains_the_config(checkout, became, monkeypatch, count):
    gpus(monkeypatch, count)
    assert launch.train(["my config.py", "--override", "optimizer.lr=1e-4"]) == 0
    assert became == [[sys.executable, "train.py", "--config", "my config.py", "--override", "optimizer.lr=1e-4"]]


def test_several_gpus_get_a_process_each(checkout, became, monkeypatch):
    gpus(monkeypatch, 8)
    assert launch.evaluate(["my config.py", "--weights", "last.pth"]) == 0
    (line,) = became
    assert line[1:6] == ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "8"]
    assert line[6:] == ["val.py", "--config", "my config.py", "--weights", "last.pth"]


def test_a_rank_that_another_launcher_set_is_respected(checkout, became, monkeypatch):
    gpus(monkeypatch, 8)
    monkeypatch.setenv("WORLD_SIZE", "16")
    launch.train(["--config", "my config.py"])
    assert became == [[sys.executable, "train.py", "--config", "my config.py"]]


def test_a_config_that_does_not_exist_is_one_sentence(checkout, became, capsys):
    assert launch.train(["configs/typo.py"]) == 2
    assert capsys.readouterr().err == f"racdino: {checkout}/configs/typo.py, the config, does not exist.\n"
    assert became == []


@pytest.mark.parametrize(
    ("start", "script", "module"),
    [
        (launch.train, "train.py", "racdino.openmmlab.training"),
        (launch.evaluate, "val.py", "racdino.openmmlab.evaluate"),
    ],
)
def test_without_a_script_ours_runs_with_the_arguments_as_given(checkout, became, monkeypatch, start, script, module):
    (checkout / script).unlink()
    arguments = ["my config.py", "--cfg-options", "a=[1, 2]", "b c"]
    gpus(monkeypatch, 1)
    start(arguments)
    gpus(monkeypatch, 2)
    start(arguments)
    ours = ["-m", module, *arguments]
    torchrun = ["-m", "racdino.training.torchrun", "--standalone", "--nproc_per_node", "2"]
    assert became == [[sys.executable, *ours], [sys.executable, *torchrun, *ours]]


def test_every_process_of_an_isolated_python_is_isolated(checkout, became, monkeypatch):
    """As in the image: a racdino/ in the mounted checkout is not imported, by no process of a run either."""
    (checkout / "train.py").unlink()
    monkeypatch.setattr(launch, "own_python", lambda: [sys.executable, "-I"])
    gpus(monkeypatch, 2)
    launch.train(["my config.py"])
    (command,) = became
    assert command[:4] == [sys.executable, "-I", "-m", "racdino.training.torchrun"]
    assert command[-6:] == ["--no-python", sys.executable, "-I", "-m", "racdino.openmmlab.training", "my config.py"]


def test_nothing_at_all_is_the_demo(checkout, became):
    (checkout / "train.py").unlink()
    launch.train([])
    assert became == [[sys.executable, "-m", "racdino.demo"]]


def test_a_missing_config_is_told_before_ours_is_started(checkout, became, capsys):
    (checkout / "train.py").unlink()
    assert launch.train(["configs/typo.py", "--resume"]) == 2
    assert capsys.readouterr().err == f"racdino: {checkout}/configs/typo.py, the config, does not exist.\n"
    assert became == []


def test_the_command_becomes_the_script(checkout):
    command = [sys.executable, "-I", "-m", "racdino", "train", "my config.py", "a b"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    ) as process:
        assert process.stdout is not None
        arguments, pid = json.loads(process.stdout.read())
    assert arguments == ["train.py", "--config", "my config.py", "a b"]
    assert pid == process.pid


def test_the_shell_is_a_shell():
    command = [sys.executable, "-m", "racdino", "shell", "-c", "exit 9"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 9
