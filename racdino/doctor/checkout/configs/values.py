"""The values that a config may have, and operations on them that no config can make slow or large."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

LARGEST = 100_000  # items of a list, characters of a string
LARGEST_TREE = 100_000  # values in a whole config
DEEPEST = 60
MOST_BITS = 1024


class NotEvaluatedError(Exception):
    """An expression is outside of what is evaluated here; the message says why."""


def is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, complex, str, bytes))


OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
    ast.BitXor: operator.xor,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
}
UNARY: dict[type, Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Invert: operator.invert,
    ast.Not: operator.not_,
}
COMPARISONS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_SCALARS: dict[str, Callable[..., Any]] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "abs": abs,
    "round": round,
}
_SERIES: dict[str, Callable[..., Any]] = {"min": min, "max": max, "sum": sum}
_COPIES: dict[str, Callable[..., Any]] = {"list": list, "tuple": tuple, "dict": dict}
_CONVERSIONS: dict[int, Callable[[Any], str]] = {ord("s"): str, ord("r"): repr, ord("a"): ascii}
PURE = {*_SCALARS, *_SERIES, *_COPIES, "len", "range"}
MUTATING = {list: ("append", "extend", "insert"), dict: ("update", "pop")}
READING = {list: ("copy",), dict: ("copy", "get")}


def binary(kind: type, left: Any, right: Any) -> Any:
    """``left op right`` for numbers, strings, lists and tuples; NotEvaluatedError where the result could be large."""
    if kind is ast.Mod and isinstance(left, (str, bytes)):
        return percent(left, right)
    if kind in (ast.Pow, ast.LShift) and (_bits(left) > 64 or abs(right) > 64):
        raise NotEvaluatedError("a large power")
    if kind is ast.Mult:
        _check_length(length(left) * _times(right) + length(right) * _times(left))
    if kind is ast.Add:
        _check_length(length(left) + length(right))
    result = OPERATORS[kind](left, right)
    if _bits(result) > MOST_BITS:
        raise NotEvaluatedError("a large number")
    return result


def percent(template: str | bytes, value: Any) -> Any:
    values = value if isinstance(value, tuple) else (value,)
    if not all(map(is_scalar, values)) or not isinstance(template, str) or re.search(r"\*|\d{4}", template):
        raise NotEvaluatedError("a format")
    return template % value


def format_text(template: str, args: list[Any], keywords: dict[str, Any]) -> str:
    """``template.format(...)`` with scalars, without attributes, subscripts or wide fields."""
    if not all(map(is_scalar, [*args, *keywords.values()])) or re.search(r"\{[^}]*[.\[{]|\d{4}", template):
        raise NotEvaluatedError("a format")
    return template.format(*args, **keywords)


def format_value(value: Any, conversion: int, spec: str) -> str:
    """One field of an f-string."""
    if not is_scalar(value) or re.search(r"\d{4}", spec):
        raise NotEvaluatedError("a format")
    return format(value if conversion == -1 else _CONVERSIONS[conversion](value), spec)


def compare(kind: type, left: Any, right: Any) -> bool:
    """Comparison of scalars, or a look-up of one in scalars: the others could be nested without end."""
    items = right if kind in (ast.In, ast.NotIn) and isinstance(right, (list, tuple, dict, str)) else [right]
    if not is_scalar(left) or not all(map(is_scalar, items)):
        raise NotEvaluatedError("a comparison of lists or dicts")
    return bool(COMPARISONS[kind](left, right))


def call_pure(name: str, args: list[Any]) -> Any:
    """A builtin that reads its arguments only; ``dict(key=value)`` is the evaluator's."""
    if name in _COPIES and len(args) <= 1:
        return _copy(name, args)
    if name == "len" and len(args) == 1 and isinstance(args[0], (list, tuple, dict, str, range)):
        return len(args[0])
    if name == "range" and args and all(isinstance(a, int) and _bits(a) < 32 for a in args):
        return range(*args)
    if name in _SERIES and args:
        return _series(name, args)
    if name in _SCALARS and args and all(map(is_scalar, args)) and length(args[0]) < 200:
        return _SCALARS[name](*args)
    raise NotEvaluatedError(f"the call of {name}()")


def _copy(name: str, args: list[Any]) -> Any:
    allowed = (dict,) if name == "dict" else (list, tuple, dict, range, str)
    if args and not isinstance(args[0], allowed):
        raise NotEvaluatedError(f"the call of {name}()")
    _check_length(length(args[0]) if args else 0)
    return _COPIES[name](*args)


def _series(name: str, args: list[Any]) -> Any:
    items = list(args[0]) if len(args) == 1 and isinstance(args[0], (list, tuple, range)) else args
    if len(items) > LARGEST or not all(map(is_scalar, items)) or (name == "sum" and len(args) > 1):
        raise NotEvaluatedError(f"the call of {name}()")
    return _SERIES[name](items)


def tree_copy(value: Any, budget: list[int], depth: int = 0) -> Any:
    """``value`` as a tree that shares nothing; NotEvaluatedError where it is too large, too deep or contains itself."""
    budget[0] -= 1
    if budget[0] < 0 or depth > DEEPEST:
        raise NotEvaluatedError("it is too large or nested too deeply")
    if isinstance(value, Mapping):
        return {key: tree_copy(item, budget, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(tree_copy(item, budget, depth + 1) for item in value)
    return value


def length(value: Any) -> int:
    """Items or characters of ``value``; 0 for what has none."""
    return len(value) if isinstance(value, (str, bytes, list, tuple, dict, range)) else 0


def _times(value: Any) -> int:
    return max(value, 0) if isinstance(value, int) else 1


def _check_length(items: int) -> None:
    if items > LARGEST:
        raise NotEvaluatedError("a very long value")


def _bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 0
