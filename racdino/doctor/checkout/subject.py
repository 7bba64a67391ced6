"""A checkout as the checks see it: listed once, read as text, never imported. Hostile content becomes a note."""

from __future__ import annotations

import ast
import io
import os
import stat
import time
import tokenize
from collections.abc import Iterator
from pathlib import Path

# At the top of a checkout: data, results and other people's code, which are not the checkout's own.
SKIPPED = frozenset(
    "data datasets work_dirs outputs pretrain weight weights checkpoints build node_modules".split()  # noqa: SIM905
)
MOST_ENTRIES = 20_000  # of one folder; listing goes on with the next
MOST_BYTES = 1 << 20  # of one file
MOST_SECONDS = 5.0  # of listing


class Checkout:
    """The files below ``root``.

    Attributes:
        root: the checkout's folder, without symbolic links.
        names: every file that is looked at, relative to it, with ``/``; a name that is not UTF-8 has surrogates.
        folders: every folder that was listed, in the same form; the root is ``""``.
        troubles: (name, sentence) of what could not be listed or read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.names: list[str] = []
        self.folders: list[str] = []
        self.troubles: list[tuple[str, str]] = []
        self._texts: dict[str, str | None] = {}
        self._trees: dict[str, ast.Module | None] = {}
        self._list()

    def files(self, suffix: str) -> list[str]:
        """The names that end in ``suffix``, sorted."""
        return [name for name in self.names if name.endswith(suffix)]

    def text(self, name: str) -> str | None:
        """The file in the encoding that it declares; None where it cannot be had, which ``troubles`` explains."""
        if name not in self._texts:
            self._texts[name] = self._decoded(name)
        return self._texts[name]

    def tree(self, name: str) -> ast.Module | None:
        """The parsed file; None where it does not parse, which ``troubles`` explains."""
        if name not in self._trees:
            text = self.text(name)
            self._trees[name] = None if text is None else self._parsed(name, text)
        return self._trees[name]

    def read_all(self) -> None:
        """Parse every Python file, so that ``troubles`` is complete."""
        for name in self.files(".py"):
            self.tree(name)

    def _decoded(self, name: str) -> str | None:
        try:
            return _read(self.root / name)
        except OSError as error:
            self.troubles.append((name, f"cannot be read: {error.strerror or error}"))
        except (SyntaxError, ValueError, LookupError) as error:
            self.troubles.append((name, f"is not text: {error}"))
        return None

    def _parsed(self, name: str, text: str) -> ast.Module | None:
        try:
            return ast.parse(text)
        except SyntaxError as error:
            self.troubles.append((f"{name}:{error.lineno or 1}", f"does not parse: {error.msg}"))
        except ValueError as error:
            self.troubles.append((name, f"does not parse: {error}"))
        except (RecursionError, MemoryError):
            self.troubles.append((name, "does not parse: it is nested too deep"))
        return None

    def _list(self) -> None:
        end = time.monotonic() + MOST_SECONDS
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            if time.monotonic() > end:
                self.troubles.append((folder, f"was not looked at: listing stopped after {MOST_SECONDS:g} s"))
                break
            self.folders.append(folder)
            try:
                waiting.extend(self._list_folder(folder))
            except OSError as error:
                self.troubles.append((folder or ".", f"cannot be listed: {error.strerror}"))
        self.names.sort()
        self.folders.sort()

    def _list_folder(self, folder: str) -> Iterator[str]:
        """Note the files; yield the subfolders. A folder behind a symbolic link is not entered, so no loop is."""
        with os.scandir(self.root / folder) as entries:
            for count, entry in enumerate(entries):
                if count == MOST_ENTRIES:
                    self.troubles.append(
                        (folder or ".", f"has more than {MOST_ENTRIES} entries; the rest was not looked at")
                    )
                    return
                name = f"{folder}/{entry.name}" if folder else entry.name
                if not entry.is_dir(follow_symlinks=False):
                    self.names.append(name)
                elif name not in SKIPPED and entry.name != "__pycache__" and not entry.name.startswith("."):
                    yield name


def _read(path: Path) -> str:
    # Asked before it is opened: opening a named pipe waits for ever.
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no regular file")
    if status.st_size > MOST_BYTES:
        raise ValueError(f"it has {status.st_size >> 20} MiB, more than any source")
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    return content.decode(encoding)
