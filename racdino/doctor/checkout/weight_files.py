"""What a weights file is, told from its bytes: nothing is unpickled and torch is not needed."""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from pathlib import Path

from racdino.weights.catalogue import CATALOGUE, Entry, has_hash

MOST_HASHED = 512 << 20  # bytes: about a second


def defect(path: Path) -> str:
    """What is wrong with the weights at ``path``, as the end of a sentence; empty where nothing can be seen."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return "is no file"
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return (
        _wrong_kind(start)
        or _wrong_size(path, status.st_size)
        or _broken(path, start)
        or _wrong_hash(path, status.st_size)
    )


def _wrong_kind(start: bytes) -> str:
    if not start:
        return "is empty"
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page: the download was answered with an error or a log-in"
    if text.startswith(b"version https://git-lfs"):
        return "is a git-lfs pointer: the file itself was not fetched (`git lfs pull`)"
    if not start.startswith((b"PK", b"\x80")) and not _is_tar(start):
        return "is no checkpoint of torch"
    return ""


def _is_tar(start: bytes) -> bool:
    return start[257:262] == b"ustar"


def _wrong_size(path: Path, size: int) -> str:
    entry = _published(path)
    if entry is None or entry.size is None or entry.size == size:
        return ""
    return f"has {size} bytes, and the published file {entry.size}: the download stopped early or was changed"


def _broken(path: Path, start: bytes) -> str:
    if not start.startswith(b"PK"):
        return ""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "is a zip archive that ends early: the download or copy stopped"
    return "" if any(name.endswith("data.pkl") for name in names) else "is a zip archive without torch's data.pkl"


def _wrong_hash(path: Path, size: int) -> str:
    entry = _published(path)
    if entry is None or size > MOST_HASHED:
        return ""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return (
        "" if has_hash(entry, digest.hexdigest()) else f"is not the published file: its sha256 is {digest.hexdigest()}"
    )


def _published(path: Path) -> Entry | None:
    return next((entry for entry in CATALOGUE.values() if entry.file == os.path.basename(path)), None)  # noqa: PTH119
