"""The installation rows: what differs is said, and an environment that `make setup` did not make never passes."""

from __future__ import annotations

import json
import sys

import pytest

from racdino.environment import extension_cache
from racdino.environment.hashing import sha256
from racdino.environment.locks import LOCKS, digest
from racdino.environment.manifest import Difference
from racdino.environment.state import State, state_path, write_state
from racdino.verify import installed
from racdino.verify.errors import VerifyError

VERSION = Difference("version", "numpy", "", "numpy 1.24.0 is installed, 1.23.5 is locked.")
CHANGED = Difference("changed", "timm", "lib/timm.py", "lib/timm.py of timm differs from its archive.")


@pytest.fixture(autouse=True)
def prefix(tmp_path, monkeypatch):
    """An environment of our own, with a manifest of two packages."""
    installed._differences.cache_clear()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    packages = {
        "numpy": {"version": "1.23.5", "files": {"a": "", "b": ""}},
        "timm": {"version": "0.9", "files": {"c": ""}},
    }
    (tmp_path / "racdino").mkdir()
    used = {"cpu.lock": digest(LOCKS / "cpu.lock")}
    versions = {"numpy": "1.23.5", "timm": "0.9"}
    write_state(tmp_path, State("cpu", False, "3.10", used, versions, {}, "", ""))
    (tmp_path / "racdino" / "manifest.json").write_text(json.dumps({"locks": ["cpu.lock"], "packages": packages}))
    yield tmp_path
    installed._differences.cache_clear()


def differ(monkeypatch, *differences: Difference) -> None:
    monkeypatch.setattr(installed.manifest, "compare", lambda prefix: list(differences))


def test_nothing_differs(monkeypatch):
    differ(monkeypatch)
    assert installed.check_versions() == "2 packages as in cpu.lock"
    assert installed.check_files() == "3 files as in their archives"


def test_each_row_reports_its_own_differences(monkeypatch):
    differ(monkeypatch, VERSION, CHANGED, CHANGED)
    with pytest.raises(VerifyError, match=r"numpy 1\.24\.0 is installed, 1\.23\.5 is locked; `rm -rf "):
        installed.check_versions()
    with pytest.raises(VerifyError, match=r"differs from its archive \(1 more differ\); `rm -rf .* && make setup`"):
        installed.check_files()


@pytest.mark.parametrize("check", [installed.check_versions, installed.check_files])
def test_an_environment_of_another_making_fails_plainly(check, prefix):
    state_path(prefix).unlink()
    with pytest.raises(VerifyError, match="was not made, or not finished, by `make setup`"):
        check()


@pytest.mark.parametrize("check", [installed.check_versions, installed.check_files])
def test_a_lost_manifest_fails_plainly(check, prefix):
    (prefix / "racdino" / "manifest.json").unlink()
    with pytest.raises(VerifyError, match=r"manifest\.json does not exist: `rm -rf "):
        check()


def test_a_lock_that_moved_on_fails(prefix, monkeypatch):
    differ(monkeypatch)
    write_state(prefix, State("cpu", False, "3.10", {"cpu.lock": "0" * 64}, {}, {}, "", ""))
    with pytest.raises(VerifyError, match=r"environment/cpu\.lock is not the lock this environment was set up from"):
        installed.check_versions()


def test_the_extension_is_what_its_build_recorded(monkeypatch, tmp_path):
    assert "sha256" in installed.check_extension()
    library = tmp_path / "_C.so"
    library.write_bytes(b"built")
    monkeypatch.setattr(installed, "extension_library", lambda: library)
    with pytest.raises(VerifyError, match="has no record of its build"):
        installed.check_extension()
    extension_cache.record_path(library).write_text(json.dumps({"sha256": sha256(library)}))
    assert sha256(library)[:12] in installed.check_extension()
    library.write_bytes(b"changed")
    with pytest.raises(VerifyError, match="is not what its build recorded"):
        installed.check_extension()
