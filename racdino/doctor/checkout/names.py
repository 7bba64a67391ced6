"""RD606, RD610 and RD611: names that a checkout promises and does not have, or has twice."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

from racdino.doctor.check import Group, Problem, check
from racdino.doctor.checkout.importing import absolute, importing, imports
from racdino.doctor.checkout.statements import Opaque, all_names, bound_names, steps
from racdino.doctor.checkout.subject import Checkout
from racdino.doctor.finding import Severity

BACKBONE = ("DinoAdapter", "DinoVisionTransformer")


@check(
    "RD606",
    Group.IMPORTS,
    "every name in `__all__` is defined",
    remedy="correct the name in `__all__`, or import it above",
    severity=Severity.OPTIONAL,
    of_checkout=True,
)
def listed_names(checkout: Checkout) -> Iterator[Problem]:
    """`from package import *` fails with `AttributeError: module has no attribute 'X'` where `__all__` lists a name
    that the module does not have: a class that was renamed or an import that was deleted.

    Seen in the text of every module whose names can be read off it. An error where training imports `*` from it.
    """
    modules = importing(checkout).modules
    starred = _starred(checkout)
    for file in checkout.files(".py"):
        tree = checkout.tree(file)
        todo = steps(tree) if tree else []
        defined = {name for step in todo for name in bound_names(step)}
        if tree is None or "*" in defined or any(isinstance(step, Opaque) for step in todo):
            continue
        for name, line in all_names(tree) or ():
            if name not in defined and modules.below(str(PurePosixPath(file).parent), name) is None:
                cause = f"`__all__` lists `{name}`, which this module does not define"
                yield Problem(cause, "", f"{file}:{line}", Severity.ERROR if file in starred else None)


def _starred(checkout: Checkout) -> set[str | None]:
    """The files that training imports everything of."""
    paper = importing(checkout)
    wanted = [
        absolute(paper.modules, file, step)
        for file, step in imports(checkout)
        if ("*", "*") in step.names and file in paper.reached
    ]
    return {paper.modules.find(dotted) for dotted in wanted if dotted}


@check(
    "RD610",
    Group.IMPORTS,
    "no name is registered twice",
    remedy="delete the copy and import the class from where it was first",
    of_checkout=True,
)
def registered_twice(checkout: Checkout) -> Iterator[Problem]:
    """mmcv's registries refuse a second class of one name: `KeyError: 'DinoAdapter is already registered in models'`.
    It happens to a file that was copied instead of imported, as soon as both are imported.

    Seen in the text: two classes under `@REGISTRY.register_module()` with one name, in files that training imports.
    `force=True` is taken at its word.
    """
    reached = importing(checkout).reached
    places = defaultdict(list)
    for item in _classes(checkout):
        if item.registry and item.file in reached:
            places[item.registry, item.registered].append(f"{item.file}:{item.line}")
    for (registry, name), found in places.items():
        for place in found[1:]:
            yield Problem(
                f"`{name}` is registered in {registry} a second time; the first is at {found[0]}", place=place
            )


@check(
    "RD611",
    Group.IMPORTS,
    "there is one copy of the backbone",
    remedy="keep one, and import it where the other was",
    severity=Severity.OPTIONAL,
    of_checkout=True,
)
def one_backbone(checkout: Checkout) -> Iterator[Problem]:
    """Two files that both define `DinoAdapter` or `DinoVisionTransformer` drift apart: a mend goes into one and
    training uses the other.

    Seen in the text of files that can be imported from the checkout's folder. Two classes that are also registered
    twice are an error under RD610.
    """
    modules = importing(checkout).modules
    places = defaultdict(list)
    for item in _classes(checkout):
        if item.name in BACKBONE and modules.importable(item.file):
            places[item.name].append(item)
    for name, found in places.items():
        for item in found[1:]:
            if not (item.registry and found[0].registry):
                cause = f"`{name}` is defined a second time; the first is {found[0].file}:{found[0].line}"
                yield Problem(cause, place=f"{item.file}:{item.line}")


@dataclass(frozen=True)
class _Class:
    name: str
    registered: str
    registry: str  # empty: it is not registered
    file: str
    line: int


@lru_cache(maxsize=2)
def _classes(checkout: Checkout) -> tuple[_Class, ...]:
    found = []
    for file in checkout.files(".py"):
        text = checkout.text(file) or ""
        tree = checkout.tree(file) if "register_module" in text or any(name in text for name in BACKBONE) else None
        for node in ast.walk(tree) if tree else ():
            if isinstance(node, ast.ClassDef):
                found.append(_class(node, file))
    return tuple(found)


def _class(node: ast.ClassDef, file: str) -> _Class:
    for decorator in node.decorator_list:
        function = decorator.func if isinstance(decorator, ast.Call) else None
        if (
            isinstance(function, ast.Attribute)
            and function.attr == "register_module"
            and isinstance(decorator, ast.Call)
        ):
            given = {word.arg: word.value.value for word in decorator.keywords if isinstance(word.value, ast.Constant)}
            if not given.get("force"):
                registry = getattr(function.value, "id", getattr(function.value, "attr", "a registry"))
                return _Class(node.name, str(given.get("name") or node.name), registry, file, node.lineno)
    return _Class(node.name, node.name, "", file, node.lineno)
