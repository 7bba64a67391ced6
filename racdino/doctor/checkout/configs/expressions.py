"""Evaluates the expressions of a config without running it: literals, names, dict(...), arithmetic, formats."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable
from typing import Any

from racdino.doctor.checkout.configs import values
from racdino.doctor.checkout.configs.values import NotEvaluatedError
from racdino.doctor.unknown import Unknown

MOST_ITEMS = 500_000  # that all lists and strings of one module together may have
FAILURES = (TypeError, ValueError, ArithmeticError, LookupError)
_REBINDING = {"globals", "locals", "vars", "exec", "eval", "setattr", "__import__"}
_IMPURE = (ast.Call, ast.Await, ast.Yield, ast.YieldFrom)
_EXPRESSIONS: dict[type, str] = {
    ast.ListComp: "a comprehension",
    ast.DictComp: "a comprehension",
    ast.SetComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
    ast.Attribute: "an attribute",
    ast.Lambda: "a lambda",
    ast.Set: "a set",
}


class Expressions:
    """Values by name, and what expressions over them give, with Python's own references.

    Whatever is not evaluated becomes an `Unknown`, and so does everything that code in it might have changed.

    Attributes:
        names: value by name; Unknown where running would be needed.
        notes: (line, what) of everything that runs code, in order.
        failures: (line, message) of errors that running it would raise.
        open: whether code could have bound names that are not in ``names``.
    """

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}
        self.notes: list[tuple[int, str]] = []
        self.failures: list[tuple[int, str]] = []
        self.open = False
        self.functions: set[str] = set()  # mmcv drops these, and modules, from the config
        self.poisoned: dict[int, tuple[Any, Unknown]] = {}  # the object is kept, so that its id stays its own
        self._items_left = MOST_ITEMS
        self._evaluators: dict[type, Callable[[Any], Any]] = {
            ast.Constant: lambda node: node.value,
            ast.Name: self._name,
            ast.Dict: self._dict,
            ast.List: lambda node: self._items(node.elts),
            ast.Tuple: self._tuple,
            ast.BinOp: self._binary,
            ast.UnaryOp: self._unary,
            ast.BoolOp: self._boolean,
            ast.Compare: self._compare,
            ast.IfExp: self._choice,
            ast.Subscript: self._subscript,
            ast.JoinedStr: self._joined,
            ast.Call: self._call,
        }

    def poison(self, node: ast.AST, what: str) -> None:
        """Everything that code in ``node`` can reach and change is unknown from here on."""
        unknown = Unknown(getattr(node, "lineno", 1), what)
        names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
        waiting = [self.names[name] for name in names if name in self.names]
        if names & (self.functions | _REBINDING):
            waiting = list(self.names.values())
            self.names = dict.fromkeys(self.names, unknown)
            self.open = True
        while waiting:
            value = waiting.pop()
            if isinstance(value, (dict, list, tuple)) and id(value) not in self.poisoned:
                self.poisoned[id(value)] = (value, unknown)
                waiting.extend(value.values() if isinstance(value, dict) else value)

    def evaluate(self, node: ast.expr) -> Any:
        evaluator = self._evaluators.get(type(node))
        try:
            if evaluator is None:
                raise NotEvaluatedError(_EXPRESSIONS.get(type(node), f"an expression ({type(node).__name__})"))
            value = evaluator(node)
        except NotEvaluatedError as error:
            self.notes.append((node.lineno, str(error)))
            if any(isinstance(part, _IMPURE) for part in ast.walk(node)):
                self.poison(node, str(error))
            return Unknown(node.lineno, str(error))
        except FAILURES as error:
            self.failures.append((node.lineno, f"{type(error).__name__}: {error}"))
            return Unknown(node.lineno, type(error).__name__)
        return self.poisoned[id(value)][1] if id(value) in self.poisoned else value

    def _name(self, node: ast.Name) -> Any:
        if node.id in self.names:
            return self.names[node.id]
        if node.id.startswith("__") or hasattr(builtins, node.id):
            raise NotEvaluatedError(f"the name {node.id}")
        self._undefined(node)
        return Unknown(node.lineno, f"the name {node.id}, which is not defined")

    def _undefined(self, node: ast.Name) -> None:
        if not self.open:
            self.failures.append((node.lineno, f"NameError: name {node.id!r} is not defined"))

    def _items(self, nodes: list[ast.expr]) -> Any:
        items: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                spread = self.evaluate(node.value)
                if not isinstance(spread, (list, tuple, range)) or not self.affordable(len(spread)):
                    return _unknown(spread, node)
                items.extend(spread)
            else:
                items.append(self.evaluate(node))
        return items

    def _tuple(self, node: ast.Tuple) -> Any:
        items = self._items(node.elts)
        return tuple(items) if isinstance(items, list) else items

    def _dict(self, node: ast.Dict) -> Any:
        result: dict[Any, Any] = {}
        for key_node, value_node in zip(node.keys, node.values):  # noqa: B905 - Python 3.8
            value = self.evaluate(value_node)
            if key_node is None:
                if not isinstance(value, dict) or not self.affordable(len(value)):
                    return _unknown(value, value_node)
                result.update(value)
                continue
            key = self.evaluate(key_node)
            if not values.is_scalar(key) and not (isinstance(key, tuple) and all(map(values.is_scalar, key))):
                return _unknown(key, key_node)
            result[key] = value
        return result

    def _binary(self, node: ast.BinOp) -> Any:
        left, right = self.evaluate(node.left), self.evaluate(node.right)
        for value in (left, right):
            if isinstance(value, Unknown):
                return value
        if type(node.op) not in values.OPERATORS or isinstance(left, dict):
            raise NotEvaluatedError("an operator")
        result = values.binary(type(node.op), left, right)
        if isinstance(result, (str, bytes, list, tuple)) and not self.affordable(len(result)):
            raise NotEvaluatedError("very long values")
        return result

    def _unary(self, node: ast.UnaryOp) -> Any:
        value = self.evaluate(node.operand)
        return value if isinstance(value, Unknown) else values.UNARY[type(node.op)](value)

    def _boolean(self, node: ast.BoolOp) -> Any:
        stops = isinstance(node.op, ast.Or)
        value: Any = None
        for part in node.values:
            value = self.evaluate(part)
            if isinstance(value, Unknown) or bool(value) is stops:
                return value
        return value

    def _compare(self, node: ast.Compare) -> Any:
        left = self.evaluate(node.left)
        for kind, part in zip(node.ops, node.comparators):  # noqa: B905 - Python 3.8
            right = self.evaluate(part)
            for value in (left, right):
                if isinstance(value, Unknown):
                    return value
            if not values.compare(type(kind), left, right):
                return False
            left = right
        return True

    def _choice(self, node: ast.IfExp) -> Any:
        test = self.evaluate(node.test)
        if isinstance(test, Unknown):
            raise NotEvaluatedError(test.reason)
        return self.evaluate(node.body if test else node.orelse)

    def key(self, node: ast.Subscript) -> Any:
        inner: Any = node.slice
        if type(inner).__name__ == "Index":  # Python 3.8
            inner = inner.value
        if isinstance(inner, ast.Slice):
            parts = [None if part is None else self.evaluate(part) for part in (inner.lower, inner.upper, inner.step)]
            return next((part for part in parts if isinstance(part, Unknown)), slice(*parts))
        return self.evaluate(inner) if isinstance(inner, ast.expr) else Unknown(node.lineno, "a subscript")

    def _subscript(self, node: ast.Subscript) -> Any:
        container, key = self.evaluate(node.value), self.key(node)
        for value in (container, key):
            if isinstance(value, Unknown):
                return value
        return container[key]

    def _joined(self, node: ast.JoinedStr) -> Any:
        texts = []
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                value = self.evaluate(part.value)
                spec = self.evaluate(part.format_spec) if part.format_spec else ""
                for item in (value, spec):
                    if isinstance(item, Unknown):
                        return item
                texts.append(values.format_value(value, part.conversion, spec))
            else:
                texts.append(self.evaluate(part))
        return "".join(texts)

    def _call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Name) and node.func.id in values.PURE and node.func.id not in self.names:
            result = self._pure(node.func.id, node)
        elif isinstance(node.func, ast.Attribute):
            result = self._method(node.func, node)
        else:
            raise NotEvaluatedError(f"the call of {_dotted(node.func)}()")
        if not self.affordable(values.length(result)):
            raise NotEvaluatedError("very long values")
        return result

    def _pure(self, name: str, node: ast.Call) -> Any:
        args, keywords = self._arguments(node)
        if any(isinstance(value, Unknown) for value in args):
            return next(value for value in args if isinstance(value, Unknown))
        if name == "dict":
            base = values.call_pure("dict", args)
            base.update(keywords)
            return base
        if keywords:
            raise NotEvaluatedError(f"the call of {name}()")
        return values.call_pure(name, args)

    def _method(self, function: ast.Attribute, node: ast.Call) -> Any:
        owner = self.evaluate(function.value)
        args, keywords = self._arguments(node)
        if isinstance(owner, str) and function.attr == "format":
            return values.format_text(owner, args, keywords)
        allowed = values.MUTATING.get(type(owner), ()) + values.READING.get(type(owner), ())  # type: ignore[call-overload]
        unhashable = function.attr != "append" and any(isinstance(value, Unknown) for value in args)
        if function.attr not in allowed or unhashable:
            raise NotEvaluatedError(f"the call of {_dotted(function)}()")
        if not self.affordable(values.length(owner) + sum(map(values.length, args))):
            raise NotEvaluatedError("very long values")
        return getattr(owner, function.attr)(*args, **keywords)

    def _arguments(self, node: ast.Call) -> tuple[list[Any], dict[str, Any]]:
        args = self._items(node.args)
        if isinstance(args, Unknown):
            raise NotEvaluatedError(args.reason)
        keywords: dict[str, Any] = {}
        for keyword in node.keywords:
            value = self.evaluate(keyword.value)
            new = {keyword.arg: value} if keyword.arg else value
            if not isinstance(new, dict) or not self.affordable(len(new)):
                raise NotEvaluatedError(f"the call of {_dotted(node.func)}()")
            if not all(isinstance(key, str) for key in new) or new.keys() & keywords.keys():
                raise NotEvaluatedError("a key that is given twice")
            keywords.update(new)
        return args, keywords

    def affordable(self, items: int) -> bool:
        self._items_left -= items
        return self._items_left >= 0


def _unknown(value: Any, node: ast.AST) -> Unknown:
    return value if isinstance(value, Unknown) else Unknown(getattr(node, "lineno", 1), "a value that cannot be spread")


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "..."
