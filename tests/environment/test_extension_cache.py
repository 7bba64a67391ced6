"""The cache hands out only what a build recorded, whole, and from the same inputs."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from racdino.environment import extension_cache

NAME = "_C.cpython-310-x86_64-linux-gnu.so"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def built(folder: Path, content: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    library = folder / NAME
    library.write_bytes(content)
    return library


def store(key: str, library: Path, **facts: str) -> None:
    extension_cache.store(key, facts, library)


def test_what_was_stored_comes_back_with_its_record(tmp_path):
    store("key", built(tmp_path / "build", b"binary"), torch="2.0.0")
    target = tmp_path / "checkout" / NAME
    assert extension_cache.fetch("key", target)
    assert target.read_bytes() == b"binary"
    assert extension_cache.matches_record(target)
    assert extension_cache.read_record(target)["facts"] == {"torch": "2.0.0"}


def test_another_key_finds_nothing(tmp_path):
    store("key", built(tmp_path / "build", b"binary"))
    assert not extension_cache.fetch("other", tmp_path / NAME)
    assert not (tmp_path / NAME).exists()


def test_a_damaged_entry_is_not_used(tmp_path):
    store("key", built(tmp_path / "build", b"binary"))
    (extension_cache.cache_folder() / "key" / NAME).write_bytes(b"bin")
    assert not extension_cache.fetch("key", tmp_path / NAME)


def test_an_entry_without_its_record_is_not_used(tmp_path):
    store("key", built(tmp_path / "build", b"binary"))
    (extension_cache.cache_folder() / "key" / extension_cache.RECORD_NAME).unlink()
    assert not extension_cache.fetch("key", tmp_path / NAME)


def test_a_changed_library_no_longer_matches(tmp_path):
    library = built(tmp_path / "build", b"binary")
    store("key", library)
    assert extension_cache.matches_record(library)
    library.write_bytes(b"tampered")
    assert not extension_cache.matches_record(library)


def test_an_up_to_date_library_is_left_alone(tmp_path):
    store("key", built(tmp_path / "build", b"binary"))
    target = tmp_path / "checkout" / NAME
    extension_cache.fetch("key", target)
    inode = target.stat().st_ino
    assert extension_cache.fetch("key", target)
    assert target.stat().st_ino == inode  # a running process may have it mapped


def test_two_builds_at_once_leave_a_whole_entry(tmp_path):
    contents = [bytes([number]) * 300_000 for number in range(8)]
    libraries = [built(tmp_path / f"build{number}", content) for number, content in enumerate(contents)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda library: store("key", library), libraries))
    entry = extension_cache.cache_folder() / "key"
    assert (entry / NAME).read_bytes() in contents
    assert sorted(path.name for path in entry.iterdir()) == [NAME, extension_cache.RECORD_NAME]
    json.loads((entry / extension_cache.RECORD_NAME).read_text())
    # Mixed halves of two builds are possible, handing them out is not: the next build repairs the entry.
    if not extension_cache.fetch("key", tmp_path / NAME):
        store("key", libraries[0])
        assert extension_cache.fetch("key", tmp_path / NAME)


def test_the_key_follows_every_source(tmp_path):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "kernel.cpp").write_text("int a;")
    before = extension_cache.sources_digest(tmp_path)
    (tmp_path / "cpu" / "kernel.cpp").write_text("int b;")
    changed = extension_cache.sources_digest(tmp_path)
    (tmp_path / "cpu" / "kernel.cpp").rename(tmp_path / "cpu" / "other.cpp")
    assert len({before, changed, extension_cache.sources_digest(tmp_path)}) == 3
