"""What a module does at its top level when it is imported, in order: imports and definitions. Only the text is read."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Union

_CATCHES = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException", "KeyError", "AssertionError", "OSError"}


@dataclass(frozen=True)
class Import:
    """One ``import a.b as c`` or ``from ..a import b, c``.

    Attributes:
        module: dotted, without the dots of a relative import; empty in ``from . import x``.
        names: (name, bound as) after ``from ... import``; empty for a plain import.
        bound: what a plain import binds.
        guarded: a failure is caught, or the import happens only under a condition that the text cannot decide.
        statement: the whole statement's number among those of its line; only the sole one of a line can be replaced.
    """

    line: int
    level: int
    module: str
    names: tuple[tuple[str, str], ...] = ()
    bound: str = ""
    guarded: bool = False
    mendable: bool = True


@dataclass(frozen=True)
class Definition:
    """Names that come into being: by assignment, ``def``, ``class``, a loop."""

    names: frozenset[str]


@dataclass(frozen=True)
class Opaque:
    """From here on the module may have any name: ``exec``, ``globals()[...] = ...``, ``__getattr__``."""


Step = Union[Import, Definition, Opaque]  # noqa: UP007  (evaluated, on Python 3.8 too)


def steps(tree: ast.Module) -> list[Step]:
    """All of it, branches of ``if`` and ``try`` one after the other, functions not entered but for ``global``."""
    inside = [node for node in ast.walk(tree) if isinstance(node, (ast.Call, ast.Global))]
    made = frozenset(name for node in inside if isinstance(node, ast.Global) for name in node.names)
    first: list[Step] = [Definition(made)] if made else []
    if any(isinstance(node, ast.Call) and _makes_names(node) for node in inside):
        first.append(Opaque())
    return [*first, *_block(tree.body, guarded=False)]


def all_names(tree: ast.Module) -> list[tuple[str, int]] | None:
    """The names in ``__all__`` with their line; None where there is none, or it is computed."""
    found = None
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(map(_is_all, node.targets)):
            items = node.value.elts if isinstance(node.value, (ast.List, ast.Tuple)) else [node.value]
            names = [(item.value, item.lineno) for item in items if isinstance(item, ast.Constant)]
            found = [(name, line) for name, line in names if isinstance(name, str)]
            if len(found) < len(items):
                return None
        elif isinstance(node, ast.AugAssign) and _is_all(node.target):
            return None
    return found


def _is_all(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and target.id == "__all__"


def public_names(tree: ast.Module) -> list[str]:
    """What ``from module import *`` gives, as far as the text says it."""
    listed = all_names(tree)
    if listed is not None:
        return [name for name, _ in listed]
    defined = [name for step in steps(tree) for name in sorted(bound_names(step))]
    return [name for name in dict.fromkeys(defined) if not name.startswith("_") and name != "*"]


def bound_names(step: Step) -> frozenset[str]:
    """The names that one step binds in its module."""
    if isinstance(step, Definition):
        return step.names
    if isinstance(step, Import):
        return frozenset([step.bound] if step.bound else [name for _, name in step.names])
    return frozenset()


def _block(body: Sequence[ast.stmt], guarded: bool) -> Iterator[Step]:
    lines = [node.lineno for node in body]
    for node in body:
        yield from _statement(node, guarded, lines.count(node.lineno) == 1)


def _statement(node: ast.stmt, guarded: bool, alone: bool) -> Iterator[Step]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            bound = alias.asname or alias.name.split(".")[0]
            mendable = alone and len(node.names) == 1
            yield Import(node.lineno, 0, alias.name, (), bound, guarded, mendable)
    elif isinstance(node, ast.ImportFrom):
        names = tuple((alias.name, alias.asname or alias.name) for alias in node.names)
        yield Import(node.lineno, node.level, node.module or "", names, "", guarded, alone)
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield Definition(frozenset([node.name]))
        if node.name == "__getattr__":
            yield Opaque()
        if isinstance(node, ast.ClassDef):
            yield from (step for step in _block(node.body, guarded) if isinstance(step, Import))
    elif isinstance(node, ast.If):
        yield from _header(node)
        if _is_type_checking(node.test) or _is_main(node.test):
            yield from _block(node.orelse, guarded)
        else:
            yield from _block(node.body, guarded=True)
            yield from _block(node.orelse, guarded=True)
    elif isinstance(node, ast.Try):
        caught = guarded or any(map(_catches, node.handlers))
        yield from _block(node.body, caught)
        for handler in node.handlers:
            yield from _block(handler.body, guarded)
        yield from _block(node.orelse, caught)
        yield from _block(node.finalbody, guarded)
    else:
        yield from _other(node, guarded)


def _other(node: ast.stmt, guarded: bool) -> Iterator[Step]:
    yield from _header(node)
    if isinstance(node, (ast.With, ast.For, ast.While)):
        yield from _block(node.body, guarded or _suppresses(node))
        yield from _block(getattr(node, "orelse", []), guarded)
    elif any(isinstance(child, ast.AST) and hasattr(child, "body") for child in ast.iter_child_nodes(node)):
        yield Opaque()  # `match`, and what later Pythons may add


def _header(node: ast.stmt) -> Iterator[Step]:
    """What a statement does apart from the statements inside it."""
    parts = [child for child in ast.iter_child_nodes(node) if not isinstance(child, (ast.stmt, ast.excepthandler))]
    if isinstance(node, ast.AnnAssign) and node.value is None:
        return  # `x: int` binds nothing
    names = frozenset(name for part in parts for name in _stored(part))
    if names:
        yield Definition(names)
    if "__getattr__" in names:  # as lazy_loader makes it
        yield Opaque()


def _stored(node: ast.AST) -> Iterator[str]:
    """The names that an expression or a target binds; those of a comprehension are its own."""
    if isinstance(node, ast.Name):
        if isinstance(node.ctx, ast.Store):
            yield node.id
    elif isinstance(node, ast.Lambda):
        return
    elif isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
        yield from (inner.target.id for inner in ast.walk(node) if isinstance(inner, ast.NamedExpr))
    else:
        for child in ast.iter_child_nodes(node):
            yield from _stored(child)


def _makes_names(call: ast.Call) -> bool:
    """``exec(...)``, ``globals()``, ``setattr(sys.modules[...], ...)``."""
    if _called(call) == "setattr":
        return bool(call.args) and isinstance(call.args[0], ast.Subscript)
    return _called(call) in {"exec", "globals"}


def _suppresses(node: ast.stmt) -> bool:
    return isinstance(node, ast.With) and any(
        isinstance(item.context_expr, ast.Call) and _called(item.context_expr) == "suppress" for item in node.items
    )


def _catches(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(_last_name(kind) in _CATCHES for kind in kinds)


def _called(call: ast.Call) -> str:
    return _last_name(call.func)


def _last_name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _is_type_checking(test: ast.expr) -> bool:
    return _last_name(test) == "TYPE_CHECKING"


def _is_main(test: ast.expr) -> bool:
    return isinstance(test, ast.Compare) and _last_name(test.left) == "__name__"
