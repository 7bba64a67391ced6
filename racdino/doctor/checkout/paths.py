"""``sys.path`` edits of a checkout: where they stand, and which of its folders they add."""

from __future__ import annotations

import ast
import os.path
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

from racdino.doctor.checkout.subject import Checkout


@dataclass(frozen=True)
class Edit:
    """One edit.

    Attributes:
        path: what it adds, relative to the checkout or absolute; None where the text does not say.
        shown: the expression as it is written.
    """

    file: str
    line: int
    path: str | None
    shown: str

    @property
    def folder(self) -> str | None:
        """The checkout's folder that it adds, relative; None where it is none, as far as the text says."""
        if self.path is None or self.path.startswith(("/", "..")):
            return None
        return "" if self.path == "." else self.path


@lru_cache(maxsize=2)
def edits(checkout: Checkout) -> tuple[Edit, ...]:
    """``sys.path.append(x)``, ``.insert(0, x)``, ``.extend([...])``, ``sys.path += [...]`` in every file."""
    return tuple(edit for file in checkout.files(".py") for edit in _edits(checkout, file))


def is_egg(edit: Edit) -> bool:
    """Whether it adds a packed distribution, not a folder of sources."""
    return (edit.folder or "").endswith(".egg")


def _edits(checkout: Checkout, file: str) -> Iterator[Edit]:
    text = checkout.text(file)
    if text is None or "sys.path" not in text:
        return
    tree = checkout.tree(file)
    constants = _constants(tree, file) if tree else {}
    for node in ast.walk(tree) if tree else ():
        for value in _added(node):
            path = _path(value, file, constants)
            normal = None if path is None else os.path.normpath(path)
            yield Edit(file, value.lineno, normal, ast.get_source_segment(text, value) or "...")


def _added(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_sys_path(node.func.value):
        if node.func.attr in {"append", "insert"} and node.args:
            return [node.args[-1]]
        if node.func.attr == "extend" and node.args and isinstance(node.args[0], (ast.List, ast.Tuple)):
            return list(node.args[0].elts)
    if isinstance(node, ast.AugAssign) and _is_sys_path(node.target) and isinstance(node.value, (ast.List, ast.Tuple)):
        return list(node.value.elts)
    return []


def _is_sys_path(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and node.attr == "path"
        and isinstance(node.value, ast.Name)
        and node.value.id == "sys"
    )


def _constants(tree: ast.Module, file: str) -> dict[str, str]:
    """Names that the top level gives a path: ``HERE = os.path.dirname(__file__)``."""
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            value = _path(node.value, file, found)
            if value is not None:
                found[node.targets[0].id] = value
    return found


def _path(node: ast.expr, file: str, constants: dict[str, str]) -> str | None:
    """The path an expression means, relative to the checkout; only the usual ways to write one are understood."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Name):
        return file if node.id == "__file__" else constants.get(node.id)
    if isinstance(node, ast.Attribute) and node.attr == "parent":
        inner = _path(node.value, file, constants)
        return None if inner is None else os.path.dirname(inner)  # noqa: PTH120
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == "parents":
        return _ancestor(_path(node.value.value, file, constants), node.slice)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        sides = [_path(side, file, constants) for side in (node.left, node.right)]
        return None if None in sides else str(PurePosixPath(*[side for side in sides if side is not None]))
    if isinstance(node, ast.Call):
        return _called(node, file, constants)
    return None


def _ancestor(path: str | None, index: ast.AST) -> str | None:
    index = getattr(index, "value", index)  # Python 3.8 wraps it
    number = index.value if isinstance(index, ast.Constant) else index
    if path is None or not isinstance(number, int):
        return None
    parents = list(PurePosixPath(path).parents)
    return str(parents[number]) if number < len(parents) else None


def _called(node: ast.Call, file: str, constants: dict[str, str]) -> str | None:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    parts = [_path(argument, file, constants) for argument in node.args]
    if name == "resolve" and isinstance(node.func, ast.Attribute):
        return _path(node.func.value, file, constants)
    if not parts or any(part is None for part in parts):
        return None
    known = [part for part in parts if part is not None]
    if name in {"abspath", "realpath", "str", "Path", "fspath"}:
        return known[0]
    if name == "dirname":
        return os.path.dirname(known[0])  # noqa: PTH120
    if name == "join":
        return str(PurePosixPath(*known))
    return None
