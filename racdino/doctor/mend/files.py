"""Reading and writing files of a checkout so that nothing outside it is touched and nothing is half-written."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path


class RefusedError(Exception):
    """This file is not edited; the message says why."""


def inside(root: Path, relative: str) -> Path:
    """The real path of a checkout's file, symbolic links followed.

    Args:
        root: an absolute path without symbolic links.

    Raises:
        RefusedError: it lies outside ``root``, or is git's own.
    """
    try:
        path = Path(os.path.realpath(root / relative))
    except ValueError as error:  # NUL, or what no file system encodes
        raise RefusedError(f"{relative!r} is no file name") from error
    if root not in path.parents:
        raise RefusedError(f"{relative} leads outside {root}")
    if ".git" in path.relative_to(root).parts:
        raise RefusedError(f"{relative} belongs to git")
    return path


def read(path: Path) -> bytes:
    """The content of a regular file.

    Raises:
        RefusedError: it is none, or cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise RefusedError(f"{path} is not a regular file")
        return path.read_bytes()
    except OSError as error:
        raise RefusedError(f"{path} cannot be read: {error.strerror}") from error


def write(path: Path, content: bytes) -> None:
    """Put ``content`` in place of a file, or make a new one, in one step; mode and owner stay.

    What is hard-linked to the file keeps the old content: it may lie outside the checkout.
    """
    exists = path.exists()
    model = (path if exists else path.parent).stat()
    handle, name = tempfile.mkstemp(prefix=".racdino-doctor-", dir=str(path.parent))
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fsync(file.fileno())
        own(temporary, model)
        temporary.chmod(stat.S_IMODE(model.st_mode) if exists else 0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        temporary.unlink()
        raise


def own(path: Path, model: os.stat_result) -> None:
    """Root, in a container, must not leave files that the checkout's owner cannot remove."""
    if os.geteuid() == 0:
        os.chown(str(path), model.st_uid, model.st_gid)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
