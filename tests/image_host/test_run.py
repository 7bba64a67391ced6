"""One command line: the caller's identity, memory, mounts and words, printed and then become."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from scripts.image import run
from scripts.image.engine import Engine

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "my checkout"
    folder.mkdir()
    (folder / "train.py").touch()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """The words of the command that `--dry` prints."""

    def words(*arguments: str) -> list[str]:
        assert run.main(["--dry", *arguments]) == 0
        return shlex.split(capsys.readouterr().out.splitlines()[-1])

    return words


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run.main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def pairs(command: list[str], option: str) -> list[str]:
    return [value for name, value in pairwise(command) if name == option]


def test_the_words_of_a_command_arrive_unsplit_and_unread(docker, checkout, printed):
    docker()
    words = ["train", "configs/a b.py", "--gpus", "$HOME", "--dry", "--", "-x=1 2", "*"]
    assert printed(*words)[-len(words) - 1 :] == ["racdino:latest", *words]


def test_what_is_printed_is_what_runs_and_its_status_is_ours(docker, checkout):
    docker()
    command = [sys.executable, ROOT / "scripts" / "run.py", "train", "a b", "--help"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    line, *received = ran.stdout.splitlines()
    assert [f"argument={word}" for word in shlex.split(line)[1:]] == received
    assert ran.returncode == 7


def test_any_program_runs_by_exec(docker, checkout, printed, capsys):
    docker()
    assert printed("exec", "nvidia-smi", "-L")[-3:] == ["racdino:latest", "nvidia-smi", "-L"]
    assert "exec needs the program to run" in refusal(capsys, "exec")


def test_a_terminal_is_asked_for_only_where_there_is_one(docker, checkout, printed, monkeypatch):
    docker()
    assert not {"-it", "-i", "-t"} & set(printed("shell"))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    assert not {"-it", "-i", "-t"} & set(printed("shell"))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert "-it" in printed("shell")


def test_the_checkout_is_mounted_and_nothing_is_pulled(docker, checkout, printed):
    docker()
    command = printed("train")
    assert pairs(command, "--mount") == [f"type=bind,source={checkout},target=/workspace"]
    assert {"--rm", "--pull=never"} <= set(command)


def test_a_rootful_engine_gets_the_caller_and_the_callers_groups(docker, checkout, printed, monkeypatch):
    docker()
    for name, value in (("getuid", 1234), ("getgid", 5678), ("getgroups", [5678, 99, 30])):
        monkeypatch.setattr(os, name, lambda value=value: value)
    command = printed("info")
    assert pairs(command, "--user") == ["1234:5678"]
    assert pairs(command, "--group-add") == ["30", "99"]
    assert pairs(command, "--ulimit") == ["memlock=-1", "stack=67108864"]


def test_an_engine_in_a_container_is_not_asked_to_raise_what_it_may_not(docker, checkout, printed, tmp_path):
    docker()
    (tmp_path / "status").write_text("CapBnd:\t000001fffeffffff\n")  # all but CAP_SYS_RESOURCE
    assert pairs(printed("info"), "--ulimit") == []


def test_rootless_podman_keeps_the_callers_id(podman, checkout, printed):
    podman()
    command = printed("info")
    assert "--userns=keep-id" in command
    assert pairs(command, "--user") == [f"{os.getuid()}:{os.getgid()}"]
    assert pairs(command, "--ulimit") == []


def test_root_in_rootless_docker_is_the_caller(docker, checkout, printed):
    docker(security='["name=rootless"]')
    command = printed("info")
    assert pairs(command, "--user") == ["0:0"]
    assert "--userns=keep-id" not in command


@pytest.mark.parametrize(("memory", "shared"), [(8, "4096m"), (24, "12288m"), (512, "16384m")])
def test_shared_memory_is_16_gib_but_at_most_half_of_the_host(docker, checkout, printed, monkeypatch, memory, shared):
    docker()
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": memory << 18}.__getitem__)
    assert pairs(printed("info"), "--shm-size") == [shared]


def test_selinux_is_met_without_a_new_label_on_the_users_files(docker, checkout, printed, monkeypatch, tmp_path):
    docker()
    monkeypatch.setattr(run, "_SELINUX", tmp_path / "enforce")
    for mode, options in (("0", []), ("1", ["label=disable"])):
        (tmp_path / "enforce").write_text(mode)
        assert pairs(printed("info"), "--security-opt") == options


def test_gpus_are_handed_on_where_the_host_has_some(docker, checkout, printed, monkeypatch):
    docker()
    assert pairs(printed("info"), "--gpus") == []
    monkeypatch.setattr(run, "has_nvidia_gpu", lambda: True)
    assert pairs(printed("info"), "--gpus") == ["all"]
    assert pairs(printed("--gpus", "1", "info"), "--gpus") == ["device=1"]
    assert pairs(printed("--gpus", "none", "info"), "--gpus") == []


def test_the_container_gets_the_variables_that_are_named_and_no_others(docker, checkout, printed, monkeypatch):
    docker()
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert pairs(printed("train"), "--env") == []
    command = printed("--env", "A=b c", "--env", "WANDB_API_KEY", "train")
    assert pairs(command, "--env") == ["A=b c", "WANDB_API_KEY"]
    assert "secret" not in " ".join(command)


def test_without_a_checkout_the_folder_for_results_is_made_by_the_caller(docker, tmp_path, monkeypatch, capsys):
    docker()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    outputs = tmp_path / "empty" / "outputs"
    assert run.main(["--dry", "verify"]) == 0
    assert capsys.readouterr().out.startswith(f"mkdir -p {outputs}\n")
    assert not outputs.exists()
    monkeypatch.setattr(os, "execvp", lambda *_: None)
    assert run.main(["verify"]) == 0
    assert outputs.stat().st_uid == os.getuid()


def test_an_image_that_is_not_there_names_the_command_that_makes_it(docker, checkout, capsys):
    docker()
    sentence = refusal(capsys, "--image", "racdino:none", "verify")
    assert sentence == "verify: the image racdino:none does not exist: `make image` builds it."


def test_training_without_an_engine_runs_natively_and_says_so(place, checkout, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "ROOT", tmp_path)
    assert run.main(["train"]) == 1
    assert "neither a container engine nor" in capsys.readouterr().err
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert run.main(["--dry", "train", "configs/a b.py"]) == 0
    out, err = capsys.readouterr()
    assert shlex.split(out) == [str(python), "-m", "racdino", "train", "configs/a b.py"]
    assert err.startswith("train: no container engine is installed")
    assert err.endswith("It runs natively, in .venv.\n")


def test_an_engine_that_was_asked_for_is_not_replaced_by_the_native_run(place, checkout, capsys):
    assert refusal(capsys, "--engine", "docker", "train").startswith("train: docker is not installed")


@pytest.mark.parametrize("command", ["verify", "eval", "shell", "info", "exec"])
def test_only_training_runs_natively(place, checkout, capsys, command):
    assert refusal(capsys, command).startswith(f"{command}: no container engine is installed")


@pytest.mark.parametrize("name", ["docker", "podman"])
def test_the_engine_knows_every_option(name, docker, podman, checkout, monkeypatch, tmp_path):
    monkeypatch.undo()
    client = next((path for path in (Path("/usr/bin") / name,) if path.exists()), None)
    if client is None:
        pytest.skip(f"{name} is not installed, so its own list of options cannot be asked")
    listed = subprocess.run([client, "run", "--help"], capture_output=True, text=True, check=True).stdout
    monkeypatch.setattr(run, "_selinux", lambda: ["--security-opt", "label=disable"])
    monkeypatch.setattr(run, "has_nvidia_gpu", lambda: name == "docker")
    for rootless in (False, True):
        engine, mounts = Engine(name, client, "", rootless), run.plan_mounts(tmp_path, None)
        command = run.compose(engine, "image", [], mounts, variables=["A"])
        options = {word.split("=")[0] for word in command if word.startswith("--")}
        assert {"--rm", "--mount", "--user", "--shm-size", "--env", "--pull"} <= options
        assert {option for option in options if f"{option} " not in listed} == set()
