"""The entrypoint becomes what it was asked for, with the arguments, the folder and the signals it was given."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from racdino.container import __main__ as entrypoint
from racdino.container import places

ROOT = Path(__file__).resolve().parents[2]
SHOW = "import json, os, sys; print(json.dumps([sys.argv[1:], os.getcwd(), os.environ.get('RACDINO_OUTPUTS')]))"


def enter(*arguments: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    """`python -I -m racdino.container ARGUMENTS`, as tini starts it."""
    command = [sys.executable, "-I", "-m", "racdino.container", *arguments]
    environment = {**os.environ, "RACDINO_IMAGE": "1", "RACDINO_OUTPUTS": "/somewhere", **variables}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_arguments_arrive_unchanged():
    hard = ["two words", "it's", '"quoted"', "line\nbreak", "*", "$HOME", "`id`", "", "--", "-x", "\\", "；é"]
    done = enter("env", "python3", "-c", SHOW, *hard)
    assert json.loads(done.stdout)[0] == hard
    assert done.returncode == 0


def test_the_exit_status_is_the_programs():
    assert enter("sh", "-c", "exit 42").returncode == 42


def test_an_unknown_program_is_127_in_one_sentence():
    done = enter("trian", "config.py")
    assert done.returncode == 127
    assert done.stderr.startswith("racdino: there is no trian in PATH (")
    assert done.stderr.count("\n") == 1
    assert enter("./nothing").returncode == 127
    assert enter("/etc/passwd/x").returncode == 127


def test_a_program_that_cannot_be_executed_is_126_in_one_sentence(tmp_path):
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    (tmp_path / "lost").write_text("#!/no/such/interpreter\n")
    (tmp_path / "nothing").write_bytes(b"\x00\x01")
    for name in ("lost", "nothing"):
        (tmp_path / name).chmod(0o755)
    for name, reason in {
        "plain": "Permission denied",
        "lost": "the interpreter in its first line is not here",
        "nothing": "Exec format error",
    }.items():
        done = enter(f"./{name}", cwd=tmp_path)
        assert done.returncode == 126
        assert reason in done.stderr
        assert done.stderr.count("\n") == 1
    assert enter("").returncode in {126, 127}


def test_the_program_replaces_the_entrypoint_so_that_signals_reach_it():
    code = (
        "import os, signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); "
        "print(os.getpid(), flush=True); signal.pause()"
    )
    command = [sys.executable, "-I", "-m", "racdino.container", "env", "python3", "-c", code]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "RACDINO_IMAGE": "1"}
    ) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) == process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 7


def test_a_broken_pipe_ends_programs_as_in_any_shell():
    """Python ignores SIGPIPE; what the entrypoint becomes must not inherit that."""
    ignored = next(line for line in enter("cat", "/proc/self/status").stdout.splitlines() if line.startswith("SigIgn"))
    mask = int(ignored.split()[1], 16)
    assert not mask & (1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1))


@pytest.mark.parametrize("arguments", [(), ("info",), ("--version",), ("weights", "list")])
def test_without_a_command_it_is_info_and_looking_says_nothing_else(arguments):
    done = enter(*arguments)
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout


def test_info_answers_in_time(tmp_path):
    begun = time.monotonic()
    assert enter("info", cwd=tmp_path).returncode == 0
    assert time.monotonic() - begun < 1.0  # 0.16 s on an idle machine; the image's bar of 1.5 s includes the engine


def test_a_checkout_with_a_racdino_of_its_own_does_not_replace_the_images(tmp_path):
    (tmp_path / "racdino").mkdir()
    (tmp_path / "racdino/__init__.py").write_text("raise SystemExit('the mounted racdino was imported')")
    assert enter("info", cwd=tmp_path).returncode == 0
    assert "nothing.py, the config, does not exist" in enter("train", "nothing.py", cwd=tmp_path).stderr
    refused = enter("train", "--work-dir", "x", cwd=tmp_path)  # our training itself, which misses a config
    assert "Which config?" in refused.stderr


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A workspace and an /outputs of the test's own."""
    for name in ("workspace", "outputs"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(places, name.upper(), tmp_path / name)
    monkeypatch.setenv("RACDINO_IMAGE", "1")
    monkeypatch.delenv("RACDINO_OUTPUTS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "workspace")
    return tmp_path / "workspace"


def test_with_nothing_mounted_the_images_checkout_is_used_and_results_go_to_outputs(workspace, capsys):
    places.enter()
    assert Path.cwd() == ROOT
    assert places.outputs() == workspace.parent / "outputs"
    assert capsys.readouterr().err == ""


def test_a_mounted_checkout_is_used_as_it_is(workspace):
    (workspace / "train.py").touch()
    places.enter()
    assert Path.cwd() == workspace
    assert places.outputs() == workspace / "outputs"


def test_another_working_directory_is_kept(workspace, monkeypatch):
    monkeypatch.chdir(workspace.parent)
    places.enter()
    assert Path.cwd() == workspace.parent
    assert places.outputs() == workspace.parent / "outputs"  # not a checkout, so this is the other /outputs


def test_results_go_elsewhere_where_the_checkout_or_outputs_cannot_be_written(workspace, monkeypatch, capsys):
    (workspace / "models").mkdir()
    forbidden = {workspace}
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) not in forbidden and access(path, mode))
    assert places.outputs() == workspace.parent / "outputs"
    (workspace / "outputs").mkdir()  # a mount of its own within a read-only checkout
    assert places.outputs() == workspace / "outputs"
    forbidden |= {workspace / "outputs", workspace.parent / "outputs"}
    assert capsys.readouterr().err == ""
    assert places.outputs() == Path.home() / "outputs"
    assert capsys.readouterr().err.count("\n") == 1


def test_an_outputs_folder_that_is_not_there_is_not_made_in_the_root(workspace, capsys):
    (workspace.parent / "outputs").rmdir()
    assert places.outputs() == Path.home() / "outputs"
    assert capsys.readouterr().err.count("\n") == 1


def test_a_place_that_was_chosen_is_kept(workspace, monkeypatch):
    monkeypatch.setenv("RACDINO_OUTPUTS", "/somewhere")
    assert places.outputs() == Path("/somewhere")
    monkeypatch.delenv("RACDINO_OUTPUTS")
    monkeypatch.delenv("RACDINO_IMAGE")
    assert places.outputs() == ROOT / "outputs"


def test_verify_writes_where_results_go(monkeypatch, tmp_path):
    from racdino.verify.main import _parse

    monkeypatch.setenv("RACDINO_OUTPUTS", str(tmp_path))
    assert _parse([]).output == tmp_path / "verify"
    assert _parse(["--output", "here"]).output == Path("here")
    monkeypatch.delenv("RACDINO_OUTPUTS")
    monkeypatch.delenv("RACDINO_IMAGE", raising=False)
    assert _parse([]).output == ROOT / "outputs" / "verify"


@pytest.mark.parametrize(
    ("command", "warned"),
    [
        (["train", "config.py"], True),
        (["eval"], True),
        (["verify"], True),
        (["shell"], True),
        (["python", "x.py"], True),
        (["/opt/venv/bin/python3.10", "x.py"], True),
        (["torchrun", "x.py"], True),
        (["doctor"], False),  # prints the same itself
        (["ls"], False),
    ],
)
def test_what_computes_is_preceded_by_the_warnings(monkeypatch, capsys, tmp_path, command, warned):
    became: list[list[str]] = []
    monkeypatch.setenv("RACDINO_OUTPUTS", str(tmp_path))
    monkeypatch.setattr(entrypoint, "replace_process", lambda line: became.append(list(line)) or 0)
    monkeypatch.setattr("racdino.doctor.environment.at_start.start_warnings", lambda: ["shm is small: more"])
    assert entrypoint.main(command) == 0
    assert capsys.readouterr().err == ("racdino: shm is small: more\n" if warned else "")
    ours = [sys.executable, "-I", "-m", "racdino"] if command[0] in entrypoint.COMMANDS else []
    assert became == [[*ours, *command]]


def test_nothing_here_imports_torch():
    code = (
        "import sys, racdino.container.__main__, racdino.doctor.environment.at_start as m; "
        "import racdino.environment.info as i; "
        "i.as_json(); m.start_warnings(); assert not {'torch', 'numpy'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
