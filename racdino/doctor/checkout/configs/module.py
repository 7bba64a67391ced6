"""Follows the statements of a config without running it: what its names are after the last one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from racdino.doctor.checkout.configs import values
from racdino.doctor.checkout.configs.expressions import FAILURES, Expressions
from racdino.doctor.checkout.configs.values import NotEvaluatedError
from racdino.doctor.unknown import Unknown

_STATEMENTS: dict[type, str] = {
    ast.Import: "an import",
    ast.ImportFrom: "an import",
    ast.FunctionDef: "a function",
    ast.ClassDef: "a class",
    ast.For: "a loop",
    ast.While: "a loop",
    ast.If: "a condition",
    ast.Try: "a try",
    ast.With: "a with block",
}


class Module(Expressions):
    """The names of a module after its last statement; ``lines`` has the line of each one's last assignment.

    Imports, loops, functions and the like are not followed: what they bind is Unknown.
    """

    def __init__(self, tree: ast.Module) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}
        for statement in tree.body:
            self._statement(statement)

    def values(self) -> dict[str, Any]:
        """What mmcv would take into the config: no dunder names, modules or functions."""
        budget = [values.LARGEST_TREE]
        return {
            name: self._cleaned(name, value, budget)
            for name, value in self.names.items()
            if not name.startswith("__") and name not in self.functions
        }

    def _cleaned(self, name: str, value: Any, budget: list[int]) -> Any:
        try:
            return self._without_poison(values.tree_copy(value, budget), value)
        except NotEvaluatedError as error:
            return Unknown(self.lines.get(name, 1), str(error))

    def _without_poison(self, copy: Any, original: Any) -> Any:
        if id(original) in self.poisoned:
            return self.poisoned[id(original)][1]
        if isinstance(copy, dict):
            return {key: self._without_poison(item, original[key]) for key, item in copy.items()}
        if isinstance(copy, (list, tuple)):
            return type(copy)(map(self._without_poison, copy, original))
        return copy

    def _statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Assign):
            value = self.evaluate(node.value)
            for target in node.targets:
                self._bind(target, value)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            self._bind(node.target, self.evaluate(node.value))
        elif isinstance(node, ast.AugAssign):
            self._augmented(node)
        elif isinstance(node, ast.Delete):
            for target in node.targets:
                self._delete(target)
        elif isinstance(node, ast.Expr):
            if not isinstance(node.value, ast.Constant):
                self.evaluate(node.value)
        elif not isinstance(node, (ast.Pass, ast.AnnAssign)):
            self._code(node)

    def _bind(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Name):
            self.names[target.id] = value
            self.lines[target.id] = target.lineno
            self.functions.discard(target.id)
        elif isinstance(target, (ast.Tuple, ast.List)) and _unpacks(target, value):
            for part, item in zip(target.elts, value):  # noqa: B905 - Python 3.8, and the lengths are equal
                self._bind(part, item)
        elif isinstance(target, ast.Subscript) and self._store(target, value):
            pass
        else:
            self.poison(target, "an assignment")
            for name in _bound(target):
                self.names[name] = Unknown(target.lineno, "an assignment")

    def _store(self, target: ast.Subscript, value: Any) -> bool:
        container, key = self.evaluate(target.value), self.key(target)
        if not isinstance(container, (dict, list)) or not values.is_scalar(key):
            return False
        try:
            container[key] = value
        except FAILURES:
            return False
        return True

    def _augmented(self, node: ast.AugAssign) -> None:
        old = self.evaluate(node.target)
        if not isinstance(old, (list, dict)):
            value = ast.copy_location(ast.BinOp(left=node.target, op=node.op, right=node.value), node)
            self._bind(node.target, self.evaluate(value))
            return
        added = self.evaluate(node.value)
        extends = isinstance(old, list) and isinstance(node.op, ast.Add) and isinstance(added, (list, tuple))
        if extends and self.affordable(len(old) + len(added)):
            old += added  # in place, as Python does: other names of this list see it
        else:
            self.poison(node.target, "an assignment")

    def _delete(self, target: ast.expr) -> None:
        if isinstance(target, ast.Name):
            if target.id not in self.names:
                self._undefined(target)
            self.names.pop(target.id, None)
            return
        if isinstance(target, ast.Tuple):
            for part in target.elts:
                self._delete(part)
            return
        if isinstance(target, ast.Subscript):
            container, key = self.evaluate(target.value), self.key(target)
            if isinstance(container, (dict, list)) and values.is_scalar(key):
                try:
                    del container[key]
                except FAILURES:
                    pass
                else:
                    return
        self.poison(target, "a deletion")

    def _code(self, node: ast.stmt) -> None:
        """A statement that is not followed: what it binds is unknown, and what it reads may be changed by it."""
        what = _STATEMENTS.get(type(node), f"a statement ({type(node).__name__})")
        self.notes.append((node.lineno, what))
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            self.open = True
        for name in _bound(node):
            if name == "*":
                continue
            self.names[name] = Unknown(node.lineno, what)
            self.lines[name] = node.lineno
            self.functions.discard(name)
            if isinstance(node, (ast.Import, ast.FunctionDef, ast.AsyncFunctionDef)):
                self.functions.add(name)
        if not isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef)):
            self.poison(node, what)


def _unpacks(target: ast.Tuple | ast.List, value: Any) -> bool:
    plain = not any(isinstance(part, ast.Starred) for part in target.elts)
    return plain and isinstance(value, (list, tuple)) and len(value) == len(target.elts)


def _bound(node: ast.AST) -> Iterator[str]:
    """Names that ``node`` may bind in the module."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
        return
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, (ast.Store, ast.Del)):
            yield part.id
        elif isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler)) and part.name:
            yield part.name
        elif isinstance(part, (ast.Import, ast.ImportFrom)):
            for alias in part.names:
                yield alias.asname or alias.name.split(".")[0]
