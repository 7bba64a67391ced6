"""Where the compiled operator `racdino/_C` is kept between builds, and the record that says what it was built from.

Standard library only: `setup.py` runs this before racdino can be imported, `racdino.verify` after it was.

An entry is ``${XDG_CACHE_HOME:-~/.cache}/racdino/extension/<key>/``, the key being a digest of everything that shapes
the binary. It holds the shared object and ``_C.json``, the record; the same record lies beside an installed ``_C``.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from racdino.environment.hashing import sha256

RECORD_NAME = "_C.json"


def cache_folder() -> Path:
    """The folder that holds one folder per key."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "racdino" / "extension"


def sources_digest(folder: Path, extra: Iterable[Path] = ()) -> str:
    """One digest of the names and contents of all C++ and CUDA files under ``folder``, and of the ``extra`` files."""
    sources = sorted(path for path in folder.rglob("*") if path.suffix in {".cpp", ".cu", ".cuh", ".h"})
    digest = hashlib.sha256()
    for path in sources:
        digest.update(f"{path.relative_to(folder).as_posix()} {sha256(path)}\n".encode())
    for path in extra:
        digest.update(f"{path.name} {sha256(path)}\n".encode())
    return digest.hexdigest()


def key_of(facts: Mapping[str, object]) -> str:
    """The cache key of a build: a digest of the facts that shape its result."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def record_path(library: Path) -> Path:
    """Where the record of a shared object lies: beside it."""
    return library.with_name(RECORD_NAME)


def read_record(library: Path) -> dict[str, object]:
    """The record beside ``library``: ``sha256`` of the shared object as built, ``key`` and the ``facts`` behind it.

    Raises:
        FileNotFoundError: the library was not put there by our build.
    """
    record: dict[str, object] = json.loads(record_path(library).read_text())
    return record


@contextmanager
def only_builder(key: str) -> Iterator[None]:
    """Hold the lock of ``key``, so that of two builds at once the second finds what the first stored.

    Raises:
        OSError: the cache folder cannot be written.
    """
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / f"{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def matches_record(library: Path) -> bool:
    """Whether ``library`` is, byte for byte, what the build recorded."""
    return read_record(library)["sha256"] == sha256(library)


def place(library: Path, target: Path) -> None:
    """Copy a recorded shared object and its record; each file arrives whole, the record last.

    A target that is already that build is left alone, so that nothing mapped by a running process is replaced.
    """
    if not (target.is_file() and sha256(target) == read_record(library)["sha256"]):
        _write(target, library.read_bytes(), mode=library.stat().st_mode)
    _write(record_path(target), record_path(library).read_bytes())


def fetch(key: str, target: Path) -> bool:
    """Put the cached build of ``key`` and its record at ``target``; False when there is none (or a damaged one)."""
    cached = cache_folder() / key / target.name
    if not (cached.is_file() and record_path(cached).is_file() and matches_record(cached)):
        return False
    place(cached, target)
    return True


def store(key: str, facts: Mapping[str, object], library: Path) -> None:
    """Record the build that just made ``library`` beside it, then put both in the cache.

    Two builds at once store two equivalent entries, and `fetch` refuses a library that the record beside it does not
    describe.

    Raises:
        OSError: the record, or (after it) the cache entry, could not be written.
    """
    record = {"key": key, "sha256": sha256(library), "facts": dict(facts)}
    _write(record_path(library), (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())
    place(library, cache_folder() / key / library.name)


def _write(target: Path, content: bytes, mode: int = 0o644) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        temporary.chmod(mode & 0o777)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
