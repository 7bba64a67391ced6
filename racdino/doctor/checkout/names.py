"""RD606 to RD611: names that a checkout has twice, not at all, or in front of somebody else's."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

from racdino.doctor.check import Group, Problem, check
from racdino.doctor.checkout.importing import importing
from racdino.doctor.checkout.modules import LOCKED
from racdino.doctor.checkout.paths import edits
from racdino.doctor.checkout.statements import Opaque, all_names, bound_names, steps
from racdino.doctor.checkout.subject import Checkout
from racdino.doctor.finding import Severity
from racdino.doctor.mend.plan import CreateFile

BACKBONE = ("DinoAdapter", "DinoVisionTransformer")


@check(
    "RD606",
    Group.IMPORTS,
    "every name in `__all__` is defined",
    remedy="correct the name in `__all__`, or import it above",
    of_checkout=True,
)
def listed_names(checkout: Checkout) -> Iterator[Problem]:
    """`from package import *` fails with `AttributeError: module has no attribute 'X'` where `__all__` lists a name
    that the module does not have: a class that was renamed or an import that was deleted.

    Seen in the text of every module whose names can be read off it.
    """
    modules = importing(checkout).modules
    for file in checkout.files(".py"):
        tree = checkout.tree(file)
        todo = steps(tree) if tree else []
        defined = {name for step in todo for name in bound_names(step)}
        if tree is None or "*" in defined or any(isinstance(step, Opaque) for step in todo):
            continue
        for name, line in all_names(tree) or ():
            if name not in defined and modules.below(str(PurePosixPath(file).parent), name) is None:
                yield Problem(f"`__all__` lists `{name}`, which this module does not define", place=f"{file}:{line}")


@check(
    "RD607",
    Group.IMPORTS,
    "no file edits `sys.path`",
    remedy="delete the edit, and import by the way from the checkout's folder or with dots",
    severity=Severity.OPTIONAL,
    of_checkout=True,
)
def path_edits(checkout: Checkout) -> Iterator[Problem]:
    """An edit of `sys.path` decides which of two files a name means, for everything that is imported after it. With
    `models/backbones` on the path a package exists under two names, its classes exist twice, and registries refuse the
    second. It works as long as nobody moves a folder, so this is a remark; what breaks has a code of its own.

    Seen in the text of files that training imports. Adding the checkout's own folder, as programs in `tools/` do, is
    not counted.
    """
    reached = importing(checkout).reached
    for edit in edits(checkout):
        if edit.folder != "" and edit.file in reached:
            adds = f"adds {edit.folder}" if edit.folder else "adds a folder that the text does not tell"
            yield Problem(f"`sys.path` is edited: `{edit.shown}` {adds}", place=f"{edit.file}:{edit.line}")


@check(
    "RD608",
    Group.IMPORTS,
    "every package has its `__init__.py`",
    remedy="add an empty `__init__.py` to that folder",
    mends=True,
    of_checkout=True,
)
def init_files(checkout: Checkout) -> Iterator[Problem]:
    """A folder without `__init__.py` is a namespace package: its parts import, but a package of the same name anywhere
    else on `sys.path` wins over all of it, silently, and `find_packages` leaves it out of an installation.

    Seen in the text: folders with Python files that lie inside a package and have no `__init__.py` of their own.
    """
    modules = importing(checkout).modules
    with_python = {str(PurePosixPath(file).parent) for file in checkout.files(".py")}
    for folder in sorted(with_python):
        parent = str(PurePosixPath(folder).parent)
        if (
            parent != "."
            and not modules.is_package(folder)
            and modules.is_package(parent)
            and _imported(checkout, folder)
        ):
            name = f"{folder}/__init__.py"
            yield Problem(
                f"{folder} lies in a package and has no `__init__.py`", place=folder, mend=CreateFile(name, "")
            )


@check(
    "RD609",
    Group.IMPORTS,
    "every Python file can be read and parsed",
    remedy="correct that line; `python -m py_compile FILE` shows it",
    of_checkout=True,
)
def readable(checkout: Checkout) -> Iterator[Problem]:
    """A file that does not parse fails when it is first imported, and everything that imports it. Merge markers
    (`<<<<<<<`) that a commit left behind are the usual reason, tabs among spaces and a truncated copy the next.

    Each file is decoded as it declares and parsed once; nothing is executed. Named pipes, devices, files above 1 MiB
    and folders with more than 20,000 entries are named and not read. Only a file that training imports is an error.
    """
    checkout.read_all()
    reached = importing(checkout).reached
    for place, sentence in checkout.troubles:
        file = place.rpartition(":")[0] or place
        text = checkout.text(file) if file in checkout.names else None
        if text and any(line.startswith(("<<<<<<< ", ">>>>>>> ")) for line in text.splitlines()):
            sentence += "; a merge was left unfinished in it"
        severity = None if file in reached else Severity.OPTIONAL
        yield Problem(sentence, place=place, severity=severity)


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
    training uses the other. The user's record had copies below `models/` and below the folder they were copied from.

    Seen in the text. Two classes that are also registered twice are an error under RD610.
    """
    places = defaultdict(list)
    for item in _classes(checkout):
        if item.name in BACKBONE:
            places[item.name].append(item)
    for name, found in places.items():
        for item in found[1:]:
            if not (item.registry and found[0].registry):
                cause = f"`{name}` is defined a second time; the first is {found[0].file}:{found[0].line}"
                yield Problem(cause, place=f"{item.file}:{item.line}")


@check(
    "RD612",
    Group.IMPORTS,
    "nothing at the top of the checkout hides an installed package",
    remedy="rename it, and what imports it",
    of_checkout=True,
)
def hidden(checkout: Checkout) -> Iterator[Problem]:
    """The folder of the program that is started comes first on `sys.path`. A `torch.py`, `mmcv/` or `yaml.py` there is
    imported in the package's place, by everything: the usual sign is `AttributeError: partially initialized module`.

    Seen in the text: modules and packages at the top of the checkout with the name of one that the locks install.
    """
    modules = importing(checkout).modules
    for top in modules.tops:
        if top in LOCKED - {"MultiScaleDeformableAttention", "racdino"}:
            yield Problem(
                f"`import {top}` in this checkout finds this, not the installed {top}", place=modules.find(top) or ""
            )


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
        tree = checkout.tree(file)
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


def _imported(checkout: Checkout, folder: str) -> bool:
    """Whether training imports anything of a folder."""
    return any(file == folder or file.startswith(f"{folder}/") for file in importing(checkout).reached)
