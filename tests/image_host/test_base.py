"""The base image: pulled where a registry answers, else made once of apt.lock."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.image import base
from scripts.image.base import Base
from scripts.image.engine import Engine
from scripts.image.errors import ImageError

ROOT = Path(__file__).resolve().parents[2]
PINNED = "debian:bookworm-slim@sha256:1"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of the files that shape a base."""
    for name in ("environment/apt.lock", "docker/dpkg.cfg"):
        (tmp_path / "checkout" / name).parent.mkdir(parents=True)
        shutil.copy(ROOT / name, tmp_path / "checkout" / name)
    monkeypatch.setattr(base, "ROOT", tmp_path / "checkout")
    monkeypatch.delenv("DEBIAN_SOURCES", raising=False)
    return tmp_path / "checkout"


def test_a_base_that_is_here_is_neither_pulled_nor_made(client, calls):
    assert base.ensure_base(client, "present:1") == Base("present:1", "pulled")
    assert [call[0] for call in calls()] == ["image"]


def test_a_registry_that_answers_gives_the_pinned_base(client, tmp_path, calls):
    (tmp_path / "pulls").touch()
    assert base.ensure_base(client, PINNED) == Base(PINNED, "pulled")
    assert calls()[-1] == ["pull", "--quiet", PINNED]


@pytest.fixture
def bootstrapped(monkeypatch: pytest.MonkeyPatch, root: Path) -> list[Path]:
    made: list[Path] = []
    monkeypatch.setattr(base, "bootstrap", lambda archive: made.append(archive) or archive.write_bytes(b"base"))
    return made


def test_without_a_registry_the_base_is_made_once(client, bootstrapped, capsys):
    first = base.ensure_base(client, PINNED)
    assert re.fullmatch(r"racdino-base:[0-9a-f]{12}", first.name)
    assert first.origin == "bootstrapped"
    assert base.ensure_base(client, PINNED) == first
    assert len(bootstrapped) == 1
    assert "no registry answers" in capsys.readouterr().out


def test_another_lock_is_another_base(client, bootstrapped, root):
    first = base.ensure_base(client, PINNED)
    with (root / "environment" / "apt.lock").open("a") as lock:
        lock.write("# another\n")
    assert base.ensure_base(client, PINNED).name != first.name
    assert len(bootstrapped) == 2


def test_a_registry_that_hangs_is_given_up(place, monkeypatch):
    client = place("docker", "exec /bin/sleep 20")
    monkeypatch.setattr(base, "_PATIENCE", 0.2)
    assert not base._pull(Engine("docker", client, "20.10.24", rootless=False), PINNED)


def test_a_machine_that_can_make_no_base_names_what_to_install(place, tmp_path):
    with pytest.raises(ImageError, match="mmdebstrap is not here to bootstrap one: apt install mmdebstrap, or pull"):
        base.bootstrap(tmp_path / "base.tar")


def test_the_date_of_the_lock_is_the_time_of_the_build_in_every_time_zone(root, monkeypatch):
    lock = root / "environment" / "apt.lock"
    lock.write_text("# snapshot: 20260701T000000Z\n")
    for zone in ("UTC", "Asia/Shanghai", "America/New_York"):
        answer = subprocess.run(
            [sys.executable, "-c", f"from scripts.image.base import *; print(epoch(Path({str(lock)!r})))"],
            env={**os.environ, "TZ": zone},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert answer.stdout == "1782864000\n"
