"""RD640 to RD642: files and folders that are right on another machine, or belong to another user."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

from racdino.doctor.check import Group, Problem, check
from racdino.doctor.checkout.subject import Checkout
from racdino.doctor.finding import Severity

# Where people keep data. `/tmp` and the system's own folders are made as needed, and `/api/v1` is no path.
_PLACES = r"/(?:home|root|Users|mnt|media|data\d*|nfs\d*|ssd\d*|hdd\d*|disk\d*|raid\d*|storage|shared?)/"
_PATH = re.compile(_PLACES + r"[\w./-]+$")
_RESULTS = ("outputs", "work_dirs")


@check(
    "RD640",
    Group.IMPORTS,
    "code names no absolute path that is missing here",
    remedy="write it relative to the checkout, or read it from an option or a variable",
    severity=Severity.OPTIONAL,
    of_checkout=True,
)
def paths_exist(checkout: Checkout) -> Iterator[Problem]:
    """`/home/user0/...` in a file is right on one machine and in no container. As a default it hurts late, when the
    data set is opened.

    Seen in the strings of Python files, comments and docstrings left out; tests are not looked at, and configs have
    RD740 for this. One line for each missing folder.
    """
    places: dict[str, list[str]] = {}
    for file in checkout.files(".py"):
        text = None if file.startswith(("configs/", "tests/")) else checkout.text(file)
        tree = checkout.tree(file) if text and re.search(_PLACES, text) else None
        for line, value in _strings(tree) if tree else ():
            missing = _missing(value)
            if missing:
                places.setdefault(missing, []).append(f"{file}:{line}")
    for missing, found in places.items():
        more = f"; {len(found) - 1} more lines name it" if len(found) > 1 else ""
        yield Problem(f"{missing} is not on this machine{more}", place=found[0])


@check(
    "RD641",
    Group.IMPORTS,
    "shell scripts have Unix line ends",
    remedy="sed -i 's/\\r$//' FILE",
    of_checkout=True,
)
def line_ends(checkout: Checkout) -> Iterator[Problem]:
    """A script that was saved on Windows ends its first line with a carriage return, and the kernel looks for a program
    called `bash\\r`: `/usr/bin/env: 'bash\\r': No such file or directory`, or `$'\\r': command not found` further down.

    Seen in the bytes of each `*.sh`.
    """
    for file in checkout.files(".sh"):
        text = checkout.text(file)
        if text and "\r\n" in text:
            yield Problem("its lines end as on Windows", f"sed -i 's/\\r$//' {file}", file)


@check(
    "RD642",
    Group.IMPORTS,
    "folders that results go to can be written",
    remedy='sudo chown -R "$(id -u):$(id -g)" that folder; `racdino` runs containers as you',
    of_checkout=True,
)
def results_folders(checkout: Checkout) -> Iterator[Problem]:
    """A container that ran as root leaves folders that only root may write, and the next run as yourself fails when it
    saves its first checkpoint (deepvariant#550).

    Looked at: `outputs` and `work_dirs`, and what lies directly in them. A checkout that is mounted read-only and has
    neither is optional, since reading it needs no more.
    """
    root = Path(checkout.root)
    there = [root / name for name in _RESULTS if (root / name).is_dir()]
    if not there and not os.access(root, os.W_OK):
        yield Problem("the checkout's folder may not be written by this user", place=".", severity=Severity.OPTIONAL)
    for folder in there:
        locked = next((path for path in [folder, *_below(folder)] if not os.access(path, os.W_OK)), None)
        if locked:
            shown = os.path.relpath(locked, root)
            cause = f"{shown} may not be written by this user ({os.getuid()}); it is {locked.stat().st_uid}'s"
            yield Problem(cause, f'sudo chown -R "$(id -u):$(id -g)" {os.path.relpath(folder, root)}', shown)


def _below(folder: Path) -> list[Path]:
    try:
        return [path for path in sorted(folder.iterdir())[:200] if path.is_dir() and not path.is_symlink()]
    except OSError:
        return []


def _strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or id(node) in prose:
            continue
        if isinstance(node.value, str) and _PATH.match(node.value):
            yield node.lineno, node.value


def _missing(path: str) -> str:
    """The topmost part of ``path`` that is not there; empty where all is."""
    parts = [*reversed(Path(path).parents), Path(path)]
    return next((str(part) for part in parts if not os.path.lexists(part)), "")
