"""A JSON table of nuScenes as a stream of records, hashed while it is read."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

_CHUNK_BYTES = 1 << 20
_BETWEEN = re.compile(r"[\s,]*")


class TableError(ValueError):
    """A table is absent or is not as nuScenes writes it; the message names it."""


class Hash(Protocol):
    """What of hashlib's objects is used here."""

    def update(self, data: bytes, /) -> None:
        """Take in more bytes."""


class Progress(Protocol):
    """What of tqdm's objects is used here."""

    def update(self, n: int, /) -> object:
        """Count ``n`` more bytes."""


def read_records(path: Path, digest: Hash, progress: Progress) -> Iterator[dict[str, Any]]:
    """The records of ``path``, a JSON list of objects; its bytes go to ``digest``, their number to ``progress``.

    Raises:
        TableError: see there.
    """
    decode = codecs.getincrementaldecoder("utf-8")().decode
    parse = json.JSONDecoder().raw_decode
    text, at, begun = "", 0, False
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                progress.update(len(chunk))
                text, at = text[at:] + decode(chunk), 0
                if not begun:
                    text = text.lstrip("\ufeff \t\r\n")
                    if not text.startswith("["):
                        raise TableError(f"Table {path} is not a JSON list of records.")
                    begun, at = True, 1
                while True:
                    at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]  # it matches the empty string too
                    if text[at : at + 1] != "{":
                        break
                    try:
                        record, at = parse(text, at)
                    except json.JSONDecodeError:  # its end is in the next chunk, or nowhere
                        break
                    yield record
    except FileNotFoundError:
        raise TableError(f"Table {path} is not there: unpack the metadata archive of this version again.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"Table {path} cannot be read ({error}).") from error
    if text[at:].strip() != "]":
        raise TableError(f"Table {path} is cut off or damaged: no whole record at {text[at : at + 40]!r}.")
