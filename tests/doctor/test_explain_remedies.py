"""What `racdino doctor explain` advises can be done: its commands exist, and its versions are the locked ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from racdino import cli
from racdino.data.main import main as data
from racdino.doctor.explain.texts import ALL
from racdino.environment.locks import parse_lock

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {command for known in ALL for command in known.remedy.split("`")[1::2]}
OLDER = {"setuptools==59.5.0"}  # for torch before 1.11, as the remedy says


def test_versions_are_those_of_the_locks():
    advised = {pin for command in COMMANDS for pin in re.findall(r"[a-z][\w-]*==[\w.+]*\w", command)} - OLDER
    locked = {
        f"{pin.name}=={pin.version}"
        for name in ("build", "cpu", "cu118", "flash-attn")
        for pin in parse_lock(ROOT / "environment" / f"{name}.lock").values()
    }
    assert len(advised) > 15
    assert advised - locked - {"torch==2.0.0+cu118"} == set()


@pytest.mark.parametrize("command", sorted(c for c in COMMANDS if c.startswith("racdino ")))
def test_racdino_command_exists(command):
    known = {"verify", "train", "eval", "show", "data", "doctor", "shell", "info", "weights"}
    assert set(cli._OWN_OPTIONS) < known
    assert command.split()[1] in known


@pytest.mark.parametrize("command", sorted(c for c in COMMANDS if c.startswith("racdino data ")))
def test_data_command_is_complete(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # no data there: refused for that, not for its arguments
    data(command.split()[2:])
    assert "usage:" not in capsys.readouterr().err


@pytest.mark.parametrize("command", sorted(c for c in COMMANDS if re.search(r"\bmake [a-z]", c)))
def test_make_target_exists(command):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    target = re.search(r"\bmake ([a-z-]+)", command)[1]
    assert target in re.findall(r"[a-z-]+", " ".join(re.findall(r"^(?:VERBS :=|\.PHONY:)(.*)$", makefile, re.M)))
