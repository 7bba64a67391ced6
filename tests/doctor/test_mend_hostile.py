"""Whatever a checkout holds, mending and undoing touch nothing outside it and execute nothing from it."""

from __future__ import annotations

import json
import os

import pytest
from mending import CODE, INIT, MENDED, problem, replace, rounds, tree

from racdino.doctor.errors import DoctorError
from racdino.doctor.mend import main
from racdino.doctor.mend.plan import CreateFile, Mend, ReplaceStatement


def test_a_checkout_does_not_say_what_undo_executes(root, tmp_path):
    """A cloned repository may hold a made-up backup."""
    main.fix(root, replace(root), yes=True)
    manifest = root / ".racdino-doctor/1/manifest.json"
    value = json.loads(manifest.read_text())
    value["commands"] = [{"command": ["true"], "undo": ["/bin/sh", "-c", f"touch {tmp_path}/executed"], "cwd": ""}]
    manifest.write_text(json.dumps(value))
    main.undo(root)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "name", ["../outside.py", "/etc/passwd", ".git/config", "link/x.py", "a\0b", "\ud800", "x" * 5000], ids=ascii
)
def test_undo_restores_nothing_outside_the_checkout(root, tmp_path, name):
    (tmp_path / "outside.py").write_text("")
    (root / "link").symlink_to(tmp_path)
    main.fix(root, replace(root), yes=True)
    manifest = root / ".racdino-doctor/1/manifest.json"
    value = json.loads(manifest.read_text())
    value["files"][name] = value["files"]["nets/__init__.py"]
    manifest.write_text(json.dumps(value))
    before = tree(tmp_path)
    with pytest.raises(DoctorError, match="Nothing was undone"):
        main.undo(root)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "\x80", "[" * 100_000, '{"files": {"a": 1}, "commands": []}', '{"files": 1}'], ids=range(7)
)
def test_a_damaged_backup_is_named(root, text):
    main.fix(root, replace(root), yes=True)
    (root / ".racdino-doctor/1/manifest.json").write_text(text, "latin-1")
    with pytest.raises(DoctorError, match=r"backup .*/1 is damaged"):
        main.undo(root)


@pytest.mark.parametrize("environment", ["", "/no/such", "a\0b", "\ud800", 5], ids=ascii)
def test_an_environment_that_is_gone_keeps_no_file_back(root, environment):
    main.fix(root, replace(root), yes=True)
    manifest = root / ".racdino-doctor/1/manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "environment": environment}))
    main.undo(root)
    assert (root / "nets/__init__.py").read_bytes() == INIT


def test_a_damaged_copy_is_named(root):
    main.fix(root, replace(root), yes=True)
    copy = next(path for path in (root / ".racdino-doctor/1").iterdir() if path.name != "manifest.json")
    copy.write_text("other")
    with pytest.raises(DoctorError, match="is damaged"):
        main.undo(root)
    assert (root / "nets/__init__.py").read_bytes() == MENDED


@pytest.mark.parametrize("make", ["file link", "folder link", "dangling link", "absolute", "parent", "fifo", "git"])
def test_nothing_outside_the_checkout_is_edited(root, tmp_path, capfd, make):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x.py").write_bytes(INIT)
    (root / ".git").mkdir()
    (root / ".git/x.py").write_bytes(INIT)
    (root / "f.py").symlink_to(outside / "x.py")
    (root / "d").symlink_to(outside)
    (root / "new.py").symlink_to(outside / "new.py")
    os.mkfifo(root / "fifo.py")
    mend: Mend = {
        "file link": ReplaceStatement("f.py", 2, CODE),
        "folder link": ReplaceStatement("d/x.py", 2, CODE),
        "dangling link": CreateFile("new.py", ""),
        "absolute": ReplaceStatement(str(outside / "x.py"), 2, CODE),
        "parent": CreateFile("../outside/new.py", ""),
        "fifo": ReplaceStatement("fifo.py", 2, CODE),
        "git": ReplaceStatement(".git/x.py", 2, CODE),
    }[make]
    before = {path: path.lstat() for path in tmp_path.rglob("*")}
    assert main.fix(root, rounds([problem(mend)]), yes=True) == 1
    assert "not mended: " in capfd.readouterr().out
    assert {path: path.lstat() for path in tmp_path.rglob("*")} == before


def test_a_link_inside_the_checkout_stays_a_link(root):
    (root / "link.py").symlink_to("nets/__init__.py")
    main.fix(root, replace(root, "link.py"), yes=True)
    assert (root / "link.py").is_symlink()
    assert (root / "nets/__init__.py").read_bytes() == MENDED


def test_what_is_hard_linked_from_outside_stays(root, tmp_path):
    (tmp_path / "hard.py").hardlink_to(root / "nets/__init__.py")
    main.fix(root, replace(root), yes=True)
    assert (tmp_path / "hard.py").read_bytes() == INIT
    assert (root / "nets/__init__.py").read_bytes() == MENDED


def test_a_backup_folder_that_is_a_link_is_refused(root, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (root / ".racdino-doctor").symlink_to(tmp_path / "elsewhere")
    before = tree(tmp_path)
    with pytest.raises(DoctorError, match="symbolic link"):
        main.fix(root, replace(root), yes=True)
    assert tree(tmp_path) == before


def test_names_that_are_not_text_are_mended_and_printed(root, capfd):
    name = os.fsdecode(b"nets/\xff\x1b[31m.py")
    (root / name).write_bytes(INIT)
    assert main.fix(root, replace(root, name), yes=True) == 0
    assert (root / name).read_bytes() == MENDED
    assert "\x1b" not in capfd.readouterr().out
    main.undo(root)
    assert (root / name).read_bytes() == INIT
