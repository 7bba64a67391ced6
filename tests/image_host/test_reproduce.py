"""The comparison sees one byte, one mode, one mtime; only what the table explains is forgiven."""

from __future__ import annotations

import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from archives import docker_archive, entry, layer

from scripts.image import reproduce
from scripts.image.compare import EXPLAINED, LayerDifference, compare
from scripts.image.errors import ImageError
from scripts.image.reproduce import Copy, copy_checkout, verdict

SAME = {"name": "opt/tool", "content": b"program", "mode": 0o644, "mtime": 5}
BASE = layer(entry("bin/sh", b"shell"))


def export(path, *changed, history=("COPY", "COPY"), **changes):
    fields = {**SAME, **changes}
    tool = entry(fields.pop("name"), fields.pop("content"), **fields)
    steps = [{"created_by": step} for step in history]
    return docker_archive(path, [BASE, layer(entry("opt/first"), tool, *changed)], history=steps)


def differences(tmp_path, **changes):
    return compare(export(tmp_path / "a.tar"), export(tmp_path / "b.tar", **changes))


def test_equal_exports_have_no_difference(tmp_path):
    assert differences(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"content": b"prOgram"}, [("content", None, None)]),
        ({"content": b"programs"}, [("size", "7", "8"), ("content", None, None)]),
        ({"mode": 0o755}, [("mode", "0644", "0755")]),
        ({"mtime": 6}, [("mtime", "5", "6")]),
        ({"gid": 5}, [("owner", "0:0", "0:5")]),
        ({"pax_headers": {"SCHILY.xattr.user.a": "b"}}, [("extended headers", "{}", "{'SCHILY.xattr.user.a': 'b'}")]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_one_changed_thing_is_the_one_difference(tmp_path, changes, expected):
    found = differences(tmp_path, **changes)
    assert [(d.layer, d.path, d.kind, d.reason) for d in found] == [
        ("layer 2", "opt/tool", kind, None) for kind, _, _ in expected
    ]
    assert [(d.first, d.second) for d in found if d.kind != "content"] == [
        (first, second) for kind, first, second in expected if kind != "content"
    ]


def test_another_type_and_another_target_are_seen(tmp_path):
    link = {"content": b"", "type": tarfile.SYMTYPE}
    first = export(tmp_path / "a.tar", **link, linkname="x")
    assert [d.kind for d in compare(first, export(tmp_path / "b.tar", **link, linkname="y"))] == ["link target"]
    hard = export(tmp_path / "c.tar", **{**link, "type": tarfile.LNKTYPE}, linkname="x")
    assert [d.kind for d in compare(first, hard)] == ["type"]


def test_an_entry_and_a_layer_of_one_image_only_are_seen(tmp_path):
    first = export(tmp_path / "a.tar", entry("opt/extra"))
    [difference] = compare(first, export(tmp_path / "b.tar"))
    assert (difference.path, difference.first, difference.second) == ("opt/extra", "present", "absent")
    short = docker_archive(tmp_path / "c.tar", [BASE], history=[{"created_by": "COPY"}, {"created_by": "COPY"}])
    [difference] = compare(short, first)
    assert (difference.layer, difference.path, difference.second) == ("layer 2", "the whole layer", "present")


def test_another_order_of_the_same_entries_is_seen(tmp_path):
    entries = [entry("a", b"1"), entry("b", b"2")]
    first = docker_archive(tmp_path / "a.tar", [layer(*entries)])
    second = docker_archive(tmp_path / "b.tar", [layer(*reversed(entries))])
    assert [d.kind for d in compare(first, second)] == ["order of the entries"]


def test_another_configuration_is_seen(tmp_path):
    [difference] = differences(tmp_path, history=("COPY", "RUN"))
    assert str(difference) == "configuration: history[1].created_by: value: COPY | RUN"


def test_the_table_explains_only_what_it_matches_whole(tmp_path):
    first, second = export(tmp_path / "a.tar"), export(tmp_path / "b.tar", mtime=6, mode=0o755)
    found = compare(first, second, explained=[(r"opt/tool: mtime", "a clock"), (r"tool: mode", "no whole match")])
    assert {d.kind: d.reason for d in found} == {"mode": None, "mtime": "a clock"}


def test_no_difference_is_forgiven_today():
    assert EXPLAINED == ()


def test_the_verdict_counts_and_shows_unexplained_ones_first():
    known = LayerDifference("layer 1", "a", "mtime", "1", "2", "a clock")
    unknown = LayerDifference("layer 1", "b", "mode", "0644", "0755", None)
    lines = verdict([*[known] * 200, unknown]).splitlines()
    assert lines[0] == "layer 1: b: mode: 0644 | 0755"
    assert lines[-2:] == ["... and 101 more", "The two builds differ in 201 places, 1 of them unexplained."]


@pytest.mark.parametrize(("reasons", "status"), [([], 0), (["a clock"], 0), (["a clock", None], 1)])
def test_the_exit_status_is_the_verdict(monkeypatch, reasons, status):
    found = [LayerDifference("layer 1", "a", "mtime", "1", "2", reason) for reason in reasons]
    monkeypatch.setattr(reproduce, "find_engine", lambda: None)
    monkeypatch.setattr(reproduce, "reproduce", lambda *arguments: found)
    assert reproduce.main([]) == status


def checkout(folder: Path) -> Path:
    """A repository with one commit."""
    origin = folder / "origin"
    origin.mkdir()
    (origin / "tracked.py").write_text("1\n")
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.invalid"]
    for arguments in (["init"], ["add", "tracked.py"], ["commit", "--message", "one"]):
        subprocess.run(["git", "-C", origin, *identity, *arguments], check=True, capture_output=True)
    return origin


@pytest.mark.parametrize("error", [ImageError("no engine"), subprocess.CalledProcessError(1, "build", "the.log")])
def test_a_comparison_that_could_not_be_made_is_no_verdict(monkeypatch, capsys, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(reproduce, "find_engine", lambda: None)
    monkeypatch.setattr(reproduce, "reproduce", fail)
    assert reproduce.main([]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("image.reproduce: ")


class Builder:
    """Stands for build and engine: an image holds the folder's content, and what ``leak`` makes of the folder."""

    def __init__(self, leak) -> None:
        self.leak, self.images, self.calls = leak, {}, []

    def build(self, *, root: Path, tag: str, **options) -> None:
        self.calls.append((root, options))
        content = (root / "tracked.py").read_bytes() + self.leak(root)
        self.images[tag] = layer(entry("tracked.py", content, mtime=int((root / "tracked.py").stat().st_mtime)))

    def run(self, arguments: list[str]) -> None:
        if arguments[0] == "save":
            docker_archive(Path(arguments[2]), [self.images[arguments[3]]])
        else:
            assert arguments[:2] == ["image", "rm"]
            del self.images[arguments[2]]


@pytest.mark.parametrize(
    ("leak", "kinds"),
    [(lambda root: b"", []), (lambda root: str(root).encode(), ["size", "content"])],
    ids=["nothing leaks", "the folder's name leaks"],
)
def test_two_builds_from_fresh_copies_are_compared_once_normalised(monkeypatch, tmp_path, capsys, leak, kinds):
    origin, work = checkout(tmp_path), tmp_path / "work"
    builder = Builder(leak)
    monkeypatch.setitem(sys.modules, "scripts.image.build", builder)
    monkeypatch.setattr(reproduce, "ROOT", origin)
    (origin / "tracked.py").write_text("not committed\n")
    found = reproduce.reproduce(work, "cpu", "8.0", builder)
    assert [difference.kind for difference in found] == kinds
    first, second = builder.calls
    assert first[0] != second[0]
    assert first[1] == second[1] == {"fresh": True, "variant": "cpu", "arch_list": "8.0"}
    assert builder.images == {}
    said = capsys.readouterr().out
    assert "what is not committed is left out" in said
    assert f"layer  1  {'different' if kinds else 'same     '}  " in said


def test_the_copies_hold_the_commit_and_differ_in_folder_mode_and_time(tmp_path):
    origin = checkout(tmp_path)
    (origin / "untracked.py").write_text("2\n")
    for copy in (Copy("a", 0o002, 1_000_000_000), Copy("b/c", 0o077, 4_000_000_000)):
        folder = copy_checkout(origin, tmp_path, copy)
        assert sorted(path.name for path in folder.iterdir()) == [".git", "tracked.py"]
        status = (folder / "tracked.py").stat()
        assert stat.S_IMODE(status.st_mode) == 0o666 & ~copy.umask
        assert status.st_mtime == copy.mtime
