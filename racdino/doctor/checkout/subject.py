"""A checkout as the checks see it: listed once, read as text, never imported. Hostile content becomes a note."""

from __future__ import annotations

import ast
import io
import os
import stat
import time
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from racdino.doctor.checkout.parsing import parse

# At the top of a checkout: data, results and other people's code, which are not the checkout's own.
SKIPPED = frozenset(
    "data datasets work_dirs outputs pretrain weight weights checkpoints build node_modules venv".split()  # noqa: SIM905
)
_NEVER = {"__pycache__", "site-packages"}  # at any depth
MOST_ENTRIES = 20_000  # of one folder; listing goes on with the next
MOST_BYTES = 512 * 1024  # of one file
MOST_LISTING = 2.0  # seconds
MOST_READING = 5.0  # seconds of reading and parsing, all files together
DEEPEST = 150  # nodes inside each other: what walks a tree by recursion must come to its end


@dataclass(frozen=True)
class Trouble:
    """What could not be listed, read or parsed.

    Attributes:
        place: ``file``, ``file:line`` or folder.
        cause: the sentence.
        breaks: Python could not import the file either; else it is only this reader that stops.
        remedy: what to do.
    """

    place: str
    cause: str
    breaks: bool = False
    remedy: str = "look at the rest yourself"


class Checkout:
    """The files below ``root``.

    Attributes:
        root: the checkout's folder, without symbolic links.
        names: every file that is looked at, relative to it, with ``/``; a name that is not UTF-8 has surrogates.
        folders: every folder that was listed, in the same form; the root is ``""``.
        linked: every symbolic link to a folder; none is entered, so that no loop is.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.names: list[str] = []
        self.folders: list[str] = []
        self.linked: list[str] = []
        self._troubles: list[Trouble] = []
        self._seconds = MOST_READING
        self._by_suffix: dict[str, list[str]] = {}
        self._texts: dict[str, str | None] = {}
        self._trees: dict[str, ast.Module | None] = {}
        self._list()

    def files(self, suffix: str) -> list[str]:
        """The names that end in ``suffix``, sorted."""
        if suffix not in self._by_suffix:
            self._by_suffix[suffix] = [name for name in self.names if name.endswith(suffix)]
        return self._by_suffix[suffix]

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

    def troubles(self) -> list[Trouble]:
        """What could not be listed, and which Python files cannot be read or parsed."""
        for name in self.files(".py"):
            self.tree(name)
        return self._troubles

    def _decoded(self, name: str) -> str | None:
        if self._seconds <= 0:
            return None
        begin = time.monotonic()
        try:
            return _read(f"{self.root}/{name}")
        except OSError as error:
            cause, remedy = f"cannot be read: {error.strerror or error}", f"git checkout -- {name}, or chmod u+r {name}"
        except (SyntaxError, ValueError, LookupError) as error:
            cause, remedy = (
                f"is not text: {error}",
                f"save it as UTF-8: iconv -f GBK -t UTF-8 {name} > new && mv new {name}",
            )
        finally:
            self._spend(time.monotonic() - begin, name)
        if name.endswith(".py"):
            self._troubles.append(Trouble(name, cause, breaks=True, remedy=remedy))
        return None

    def _parsed(self, name: str, text: str) -> ast.Module | None:
        if self._seconds <= 0:
            return None
        begin = time.monotonic()
        try:
            tree = parse(text)
            if not _is_shallow(tree):
                raise RecursionError
            return tree
        except SyntaxError as error:
            remedy = f"correct that line; `python -m py_compile {name}` shows it"
            self._troubles.append(Trouble(f"{name}:{error.lineno or 1}", f"does not parse: {error.msg}", True, remedy))
        except ValueError as error:  # a NUL character
            remedy = f"the file is damaged: git checkout -- {name}"
            self._troubles.append(Trouble(name, f"does not parse: {error}", True, remedy))
        except (RecursionError, MemoryError):
            self._troubles.append(Trouble(name, "is nested too deep to be looked at"))
        finally:
            self._spend(time.monotonic() - begin, name)
        return None

    def _spend(self, seconds: float, name: str) -> None:
        if self._seconds > 0 >= self._seconds - seconds:
            cause = f"was the last file that was looked at: reading stopped after {MOST_READING:g} s"
            self._troubles.append(Trouble(name, cause))
        self._seconds -= seconds

    def _list(self) -> None:
        end = time.monotonic() + MOST_LISTING
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            if time.monotonic() > end:
                cause = f"and {len(waiting)} folders more were not looked at: listing stopped after {MOST_LISTING:g} s"
                self._troubles.append(Trouble(folder, cause))
                break
            self.folders.append(folder)
            try:
                waiting.extend(self._list_folder(folder))
            except OSError as error:
                self._troubles.append(Trouble(folder or ".", f"cannot be listed: {error.strerror}"))
        for names in (self.names, self.folders, self.linked):
            names.sort()

    def _list_folder(self, folder: str) -> Iterator[str]:
        """Note the files and links; yield the subfolders."""
        with os.scandir(self.root / folder) as entries:
            for count, entry in enumerate(entries):
                if count == MOST_ENTRIES:
                    cause = f"has more than {MOST_ENTRIES} entries; the rest was not looked at"
                    self._troubles.append(Trouble(folder or ".", cause))
                    return
                name = f"{folder}/{entry.name}" if folder else entry.name
                kind = _kind(entry)
                if entry.name.startswith("."):  # editors' locks and macOS's shadows among them; never a module
                    continue
                if kind == "file":
                    self.names.append(name)
                elif name not in SKIPPED and entry.name not in _NEVER:
                    if kind == "folder":
                        yield name
                    else:
                        self.linked.append(name)


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    try:
        return "link" if entry.is_symlink() and entry.is_dir() else "file"
    except OSError:  # a loop of links
        return "file"


def _is_shallow(tree: ast.Module) -> bool:
    level: list[ast.AST] = [tree]
    for _ in range(DEEPEST):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return True
    return False


def _read(path: str) -> str:
    # Asked before it is opened: opening a named pipe waits for ever.
    status = os.stat(path)  # noqa: PTH116  (a string: there may be 100,000 of them)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no regular file")
    if status.st_size > MOST_BYTES:
        raise ValueError(f"it has {status.st_size >> 10} KiB, more than any source")
    with open(path, "rb") as file:  # noqa: PTH123
        content = file.read(MOST_BYTES + 1)
    encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    return content.decode(encoding)
