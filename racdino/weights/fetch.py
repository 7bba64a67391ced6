"""Download a published weight file: resumed where it stopped, checked against its sha256, put in place in one step.

Looked at and not used: pooch checks hashes but starts anew after an interruption, ``torch.hub.download_url_to_file``
and mmcv likewise; huggingface_hub resumes, but only from its own hub. So this is urllib (``http_proxy``,
``https_proxy``, ``no_proxy`` and ``SSL_CERT_FILE``/``SSL_CERT_DIR`` are honoured by it) with tqdm's progress line.
"""

from __future__ import annotations

import errno
import fcntl
import http.client
import os
import re
import shutil
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

from racdino.environment.hashing import sha256
from racdino.weights.catalogue import Entry, has_hash, shown_hash

_BLOCK = 1 << 20
_SILENCE = 30  # seconds without a byte after which a connection counts as lost
_ATTEMPTS = 5  # in a row, each without a single new byte


class FetchError(RuntimeError):
    """The file could not be fetched; the message says why and what to do."""


def fetch(entry: Entry, folder: Path, url: str | None = None, pause: float = 2.0) -> Path:
    """Download ``entry``'s file into ``folder`` and return its path; at once when it is already there.

    Args:
        folder: made when missing. While it lasts, the download is ``<file>.part`` in it, and a later call continues it.
        url: a mirror to take instead of the published address.
        pause: seconds before a lost connection is tried again, doubled each time.
    Raises:
        FetchError: one sentence. After a wrong hash the partial file is removed; otherwise it is kept, to be continued.
    """
    url = url or entry.url
    target = folder / entry.file
    if target.exists():
        if has_hash(entry, sha256(target)):
            return target
        raise FetchError(f"{target} is there but its sha256 is not {shown_hash(entry)}: move it away, then fetch again")
    if not url.startswith(("http://", "https://")):
        raise FetchError(f"{url} is not an http or https address")
    partial = target.with_name(target.name + ".part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with partial.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _download(url, file, entry, pause)
            file.flush()
            os.fsync(file.fileno())
            if not has_hash(entry, found := sha256(partial)):
                partial.unlink()
                raise FetchError(
                    f"{url} sent a file with sha256 {found} instead of {shown_hash(entry)}: it was removed; "
                    "try again, or another --url"
                )
            partial.replace(target)
    except BlockingIOError:
        raise FetchError(f"another process is writing {partial}: wait for it to end") from None
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise FetchError(
                f"the disk of {folder} is full: free some space and run this again, it continues"
            ) from error
        raise FetchError(f"cannot write {partial}: {error.strerror or error}") from error
    finally:
        if partial.is_file() and not partial.stat().st_size:  # nothing came: leave nothing
            partial.unlink()
    return target


def _download(url: str, file: BinaryIO, entry: Entry, pause: float) -> None:
    """Append to ``file`` until it is complete, taking up lost connections as long as they bring something."""
    failures = 0
    while True:
        begin = file.tell()
        try:
            if _transfer(url, file, entry):
                return
            reason = "the connection ended early"
        except (TimeoutError, ConnectionError, http.client.HTTPException, urllib.error.URLError) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                raise FetchError(
                    f"{url} answers {error.code} {error.reason}: check the address or try another --url"
                ) from error
            reason = str(getattr(error, "reason", None) or error or type(error).__name__)
            if isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError):
                raise FetchError(
                    f"{url}: {reason}; behind a proxy with its own certificate name it in SSL_CERT_FILE"
                ) from error
        failures = 1 if file.tell() > begin else failures + 1
        if failures >= _ATTEMPTS:
            raise FetchError(
                f"{url} cannot be reached ({reason}): check the network and https_proxy and run this again, it "
                f"continues; or put {entry.file} there by hand"
            )
        print(f"{reason}; trying again", file=sys.stderr)
        time.sleep(pause * 2 ** (failures - 1))


def _transfer(url: str, file: BinaryIO, entry: Entry) -> bool:
    """One connection: append what is missing; True when the file has the length the server states."""
    begin = file.seek(0, os.SEEK_END)
    request = urllib.request.Request(url, headers={"User-Agent": "racdino"})
    if begin:
        request.add_header("Range", f"bytes={begin}-")
    try:
        response = urllib.request.build_opener().open(request, timeout=_SILENCE)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        # Nothing lies beyond what we have: it is complete, or was never a part of this file.
        total = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
        if total is None or int(total[1]) != begin:
            _empty(file)
            return False
        return True
    with response:
        if begin and response.status != 206:  # the server ignores Range and sends it whole
            _empty(file)
            begin = 0
        length = response.headers.get("Content-Length")
        remaining = int(length) if length else None
        _require_space(file, remaining)
        _copy(response, file, begin, remaining, entry)
    return remaining is None or file.tell() - begin == remaining


def _empty(file: BinaryIO) -> None:
    file.seek(0)
    file.truncate()


def _require_space(file: BinaryIO, remaining: int | None) -> None:
    if remaining is not None and shutil.disk_usage(Path(file.name).parent).free < remaining:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _copy(
    response: http.client.HTTPResponse,
    file: BinaryIO,
    begin: int,
    remaining: int | None,
    entry: Entry,
) -> None:
    from tqdm import tqdm

    total = None if remaining is None else begin + remaining
    with tqdm(total=total, initial=begin, desc=entry.file, unit="B", unit_scale=True, unit_divisor=1024) as progress:
        while block := response.read(_BLOCK):
            file.write(block)
            progress.update(len(block))
