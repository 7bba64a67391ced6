"""The `racdino` command: what it prints, its exit statuses, and that it imports nothing heavy to do so."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

import racdino
from racdino.cli import main
from racdino.weights import CATALOGUE, fetch

ROOT = Path(racdino.__file__).parents[1]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RACDINO_WEIGHTS", raising=False)
    return tmp_path


def test_list_names_every_file_and_where_it_is(home, capsys):
    (home / "pretrain").mkdir()
    (home / "pretrain" / "dinov2_vitb14_pretrain.pth").touch()
    assert main(["weights", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == list(CATALOGUE)
    assert lines[-1] == f"searched, in this order: pretrain, weight, {home}/.cache/dinov2"
    base = lines[2]
    assert "330 MiB" in base
    assert base.endswith("pretrain/dinov2_vitb14_pretrain.pth")
    assert lines[0].endswith("not on this machine")


def test_fetch_fills_the_user_folder_or_the_given_one(home, monkeypatch, capsys):
    content = b"weights"
    entry = dataclasses.replace(CATALOGUE["dinov2_vits14"], sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(CATALOGUE, "dinov2_vits14", entry)
    monkeypatch.setattr(fetch, "_download", lambda url, file, *_: file.write(content))
    assert main(["weights", "fetch", "dinov2_vits14"]) == 0
    assert (home / ".cache" / "dinov2" / entry.file).read_bytes() == content
    monkeypatch.setenv("RACDINO_WEIGHTS", str(home / "chosen"))
    assert main(["weights", "fetch", "dinov2_vits14"]) == 0
    assert main(["weights", "fetch", "dinov2_vits14", "--to", "pretrain"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        str(home / ".cache/dinov2" / entry.file),
        str(home / "chosen" / entry.file),
        f"pretrain/{entry.file}",
    ]


def test_failures_are_one_line_and_a_status(capsys, monkeypatch):
    assert main(["weights", "fetch", "dinov3"]) == 1
    assert main(["weights", "fetch", "dinov2_vits14", "--url", "ftp://x"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert errors[0].startswith("racdino weights fetch: there are no published weights called 'dinov3'")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch, "fetch", interrupted)
    assert main(["weights", "fetch", "dinov2_vits14"]) == 130
    assert capsys.readouterr().err == "interrupted; run the same command again to continue\n"
    for wrong in ([], ["weights"], ["weights", "fetch"], ["fetch"]):
        with pytest.raises(SystemExit, match="2"):
            main(wrong)


def test_the_command_imports_no_torch():
    code = "import sys; from racdino.cli import main; main(['weights', 'list']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, check=True, capture_output=True)


def test_python_m_racdino_is_the_command(capfd):
    assert subprocess.run([sys.executable, "-m", "racdino", "--version"], cwd=ROOT).returncode == 0
    assert capfd.readouterr().out == f"racdino {racdino.__version__}\n"
