"""Parsing text that may be made to crash Python's own parser."""

from __future__ import annotations

import ast
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# `a.a.a...` is nested as deep as it is long, and CPython turns the parser's result into objects by recursion, without
# a limit before 3.12: 100 bytes of stack a level where it was measured, and a level takes two bytes of text.
_SMALL = 32 * 1024  # characters that any stack has room for
_STACK = 128 * 1024 * 1024  # bytes, only reserved: for 512 KiB of text, four times what it was measured to take


def parse(text: str) -> ast.Module:
    """``ast.parse``, for at most 512 KiB.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: as ``ast.parse`` does; MemoryError also where there is no
            room for a stack that is deep enough.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of invalid escapes in strings, which are the checkout's own affair
        return _parsed(text)


def _parsed(text: str) -> ast.Module:
    if len(text) <= _SMALL:
        return ast.parse(text)
    outcome: list[ast.Module | Exception] = []
    with _large_stack():
        thread = threading.Thread(target=_parse, args=(text, outcome))
        try:
            thread.start()
        except RuntimeError as error:
            raise MemoryError(str(error)) from error
    thread.join()
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def _parse(text: str, outcome: list[ast.Module | Exception]) -> None:
    try:
        outcome.append(ast.parse(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        outcome.append(error)


@contextmanager
def _large_stack() -> Iterator[None]:
    before = threading.stack_size(_STACK)
    try:
        yield
    finally:
        threading.stack_size(before)
