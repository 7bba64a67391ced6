"""The manifest notices a file that changed, went or came, and a package that is not the locked one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from setup_fakes import SITE, install

from racdino.environment.manifest import ManifestError, compare, manifest_path, record

ROOT = Path(__file__).resolve().parents[2]


def lock(folder: Path, *pins: str) -> None:
    (folder / "x.lock").write_text("".join(f"{pin} --hash=sha256:{'a' * 64}\n" for pin in pins))


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    prefix = tmp_path / ".venv"
    install(prefix, "first", "1.0", {"first/__init__.py": "x = 1\n", "../../../bin/first": "#!/bin/sh\n"})
    install(prefix, "second_part", "2.0", {"second.py": "y = 2\n"})
    (prefix / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (prefix / "bin" / "python").symlink_to("/usr/bin/python3.10")
    lock(tmp_path, "first==1.0", "second-part==2.0")
    record(prefix, ["x.lock"])
    return prefix


def kinds(prefix: Path) -> list[tuple[str, str, str]]:
    return [(item.kind, item.package, item.path) for item in compare(prefix, prefix.parent)]


def test_a_fresh_installation_has_no_difference(prefix: Path):
    assert kinds(prefix) == []


def test_a_changed_file_is_named_with_its_package(prefix: Path):
    (prefix / SITE / "second.py").write_text("y = 3\n")
    (prefix / "bin" / "first").write_text("#!/bin/false\n")
    assert kinds(prefix) == [
        ("changed", "first", "bin/first"),
        ("changed", "second-part", f"{SITE}/second.py"),
    ]


def test_the_environments_own_files_count_too(prefix: Path):
    (prefix / "bin" / "python").unlink()
    (prefix / "bin" / "python").symlink_to("/usr/bin/python3.11")
    assert kinds(prefix) == [("changed", "the environment itself", "bin/python")]


def test_two_processes_write_the_same_bytes(prefix: Path):
    """Each process has its own order of sets, and two builds of the image are compared byte for byte."""
    for number in range(8):
        (prefix / "bin" / f"activate{number}").write_text("")
    manifests = set()
    for seed in "123":
        command = [
            sys.executable,
            "-c",
            f"from racdino.environment.manifest import record; record({str(prefix)!r}, ['x.lock'])",
        ]
        subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, cwd=ROOT, check=True)
        manifests.add(manifest_path(prefix).read_bytes())
    assert len(manifests) == 1


def test_a_missing_file(prefix: Path):
    (prefix / SITE / "second.py").unlink()
    assert kinds(prefix) == [("missing", "second-part", f"{SITE}/second.py")]


def test_a_file_that_no_package_owns(prefix: Path):
    (prefix / SITE / "sitecustomize.py").write_text("")
    assert kinds(prefix) == [("unowned", "", f"{SITE}/sitecustomize.py")]


def test_byte_code_and_our_notes_are_left_out(prefix: Path):
    for path in (f"{SITE}/first/__pycache__/__init__.cpython-310.pyc", f"{SITE}/old.pyc", "racdino/state.json"):
        (prefix / path).parent.mkdir(exist_ok=True)
        (prefix / path).write_text("")
    assert kinds(prefix) == []


def test_another_version_is_one_difference_and_not_one_per_file(prefix: Path):
    info = prefix / SITE / "first-1.0.dist-info"
    for path in info.iterdir():
        path.unlink()
    info.rmdir()
    install(prefix, "first", "1.1", {"first/__init__.py": "x = 2\n", "first/more.py": ""})
    (difference,) = compare(prefix, prefix.parent)
    assert difference.kind == "version"
    assert str(difference) == "first 1.1 is installed, 1.0 is locked."


def test_a_package_in_no_lock_and_one_that_is_gone(prefix: Path):
    install(prefix, "third", "3.0", {"third.py": ""})
    lock(prefix.parent, "first==1.0", "second-part==2.0", "fourth==4.0")
    assert [str(item) for item in compare(prefix, prefix.parent)] == [
        "fourth 4.0 is locked but not installed.",
        "third 3.0 is installed but in no lock (x.lock).",
    ]


def test_a_half_written_file_is_never_recorded(tmp_path: Path):
    install(tmp_path, "first", "1.0", {"first.py": "x = 1\n"})
    (tmp_path / SITE / "first.py").write_text("x =")
    with pytest.raises(ManifestError, match=r"first\.py of first differs from its archive"):
        record(tmp_path)


def test_a_file_that_no_archive_brought_is_never_recorded(tmp_path: Path):
    install(tmp_path, "first", "1.0", {"first.py": "x = 1\n"})
    (tmp_path / SITE / "sitecustomize.py").write_text("")
    with pytest.raises(ManifestError, match=r"sitecustomize\.py belongs to no installed package"):
        record(tmp_path)


def test_a_package_without_record_is_never_recorded(tmp_path: Path):
    install(tmp_path, "first", "1.0", {"first.py": "x = 1\n"})
    (tmp_path / SITE / "first-1.0.dist-info" / "RECORD").unlink()
    with pytest.raises(ManifestError, match="its installation did not finish"):
        record(tmp_path)


def test_without_a_manifest_the_way_on_is_named(tmp_path: Path):
    with pytest.raises(ManifestError, match=r"`rm -rf .* && make setup`"):
        compare(tmp_path)
