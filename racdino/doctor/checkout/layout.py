"""RD607 to RD613: the checkout's folders and files, and what they hide or are hidden by."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import PurePosixPath

from racdino.doctor.check import Group, Problem, check
from racdino.doctor.checkout.importing import absolute, importing, imports
from racdino.doctor.checkout.modules import LOCKED, installed, standard
from racdino.doctor.checkout.paths import edits, is_egg
from racdino.doctor.checkout.subject import Checkout
from racdino.doctor.finding import Severity
from racdino.doctor.mend.plan import CreateFile

_RACDINO = PurePosixPath(__file__).parents[3]  # where the doctor runs from its sources
# Of the standard library: what nothing else imports, and what is imported before a checkout is on the path.
_HARMLESS = (
    *("test", "this", "antigravity", "idlelib", "turtle", "turtledemo", "tkinter", "lib2to3", "ensurepip", "venv"),
    *("sys", "os", "site", "builtins", "io", "abc", "codecs", "stat", "time", "posixpath", "genericpath", "encodings"),
)


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
    not counted, nor is a folder that only running the code would tell.
    """
    reached = importing(checkout).reached
    for edit in edits(checkout):
        if edit.path not in {None, "."} and not is_egg(edit) and edit.file in reached:  # an .egg is RD620's
            yield Problem(f"`sys.path` is edited: `{edit.shown}` adds {edit.path}", place=f"{edit.file}:{edit.line}")


@check(
    "RD608",
    Group.IMPORTS,
    "every package has its `__init__.py`",
    remedy="add an `__init__.py` to that folder, with the names that are imported from it",
    mends=True,
    of_checkout=True,
)
def init_files(checkout: Checkout) -> Iterator[Problem]:
    """A folder without `__init__.py` is a namespace package: its modules import, but it has no names of its own, a
    package of the same name anywhere else on `sys.path` wins over all of it, silently, and `find_packages` leaves it
    out of an installation.

    Seen in the text: folders that training imports from, which lie inside a package and have no `__init__.py`. An error
    where a name is imported from the folder that is none of its modules; else optional, and an empty file mends it.
    """
    modules = importing(checkout).modules
    for folder in checkout.folders:
        parent = str(PurePosixPath(folder).parent)
        if modules.is_package(folder) or not modules.is_package(parent) or not _imported(checkout, folder):
            continue
        lacking = _names_asked(checkout, folder)
        if lacking:
            cause = f"this folder has no `__init__.py`, and `{lacking[0]}` is imported from it"
            yield Problem(cause, place=folder)
        else:
            cause = "this folder lies in a package and has no `__init__.py`"
            mend = CreateFile(f"{folder}/__init__.py", "")
            yield Problem(cause, "add an empty `__init__.py`", folder, Severity.OPTIONAL, mend)


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

    Each file is decoded as it declares and parsed once; nothing is executed. Named pipes, devices, files above 512 KiB,
    folders with more than 20,000 entries and folders behind symbolic links are named and not read, and after two
    seconds of listing and five of reading the rest is left. Only what training imports and Python could not import
    either is an error. Configs have their own check, RD701.
    """
    reached = importing(checkout).reached
    for trouble in checkout.troubles():
        file = trouble.place.rpartition(":")[0] or trouble.place
        if trouble.breaks and file.startswith("configs/"):
            continue  # RD701's
        text = checkout.text(file) if trouble.breaks and file.endswith(".py") else None
        merge = text is not None and any(line.startswith(("<<<<<<< ", ">>>>>>> ")) for line in text.splitlines())
        cause = f"{trouble.cause}; a merge was left unfinished in it" if merge else trouble.cause
        severity = Severity.ERROR if trouble.breaks and file in reached else Severity.OPTIONAL
        yield Problem(cause, trouble.remedy, trouble.place, severity)
    for link in checkout.linked:
        if _imported(checkout, link):
            cause = "is a link to a folder, so what is imported from there was not looked at"
            yield Problem(cause, "run `racdino doctor` on the folder it leads to as well", link, Severity.OPTIONAL)


@check(
    "RD612",
    Group.IMPORTS,
    "nothing at the top of the checkout hides an installed package or Python's own",
    remedy="rename it, and what imports it",
    of_checkout=True,
)
def hidden(checkout: Checkout) -> Iterator[Problem]:
    """The folder of the program that is started comes first on `sys.path`. A `torch.py`, `mmcv/` or `random.py` there
    is imported in the package's place, by everything: the usual sign is `AttributeError: partially initialized
    module`.

    Seen in the text: modules and packages at the top of the checkout with the name of one that the locks install or of
    one of the standard library, but those that are loaded before (`os`, `io`) or that nothing imports (`test`).
    """
    modules = importing(checkout).modules
    for top in modules.tops:
        if top in LOCKED - {"MultiScaleDeformableAttention", "racdino"}:
            cause = f"`import {top}` finds this here, and not the installed {top}"
        elif standard(top) and top not in _HARMLESS and top not in sys.builtin_module_names:
            cause = f"`import {top}` finds this here, and not the standard library's {top}"
        else:
            continue
        yield Problem(cause, place=modules.find(top) or "")


@check(
    "RD613",
    Group.IMPORTS,
    "no installed package has the name of one of the checkout's",
    remedy="python -m pip uninstall the distribution that installed it",
    severity=Severity.OPTIONAL,
    of_checkout=True,
)
def hidden_by(checkout: Checkout) -> Iterator[Problem]:
    """`models`, `loaders`, `utils` are names that other repositories install by mistake. A program in the checkout's
    folder finds the checkout's own; one that is started from `tools/`, or as `torchrun -m`, finds the installed one,
    and so does everybody where the checkout's folder has no `__init__.py`, which is an error.

    Seen by looking up the names that the checkout's files import from its top folder; nothing is imported.
    """
    modules = importing(checkout).modules
    asked = {step.module.split(".")[0] for _, step in imports(checkout) if not step.level}
    for top in sorted(asked):
        here = modules.below("", top)
        there = None if here is None or top in LOCKED or standard(top) else installed(top)
        ours = (PurePosixPath(str(checkout.root)), _RACDINO)
        if here is None or there is None or any(folder in PurePosixPath(there).parents for folder in ours):
            continue
        if here.endswith(".py"):
            cause = f"programs that do not start in the checkout's folder find {there}, not this"
            yield Problem(cause, place=here)
        else:
            cause = f"`import {top}` finds {there}, since {here} has no `__init__.py`"
            yield Problem(cause, f"add {here}/__init__.py", here, Severity.ERROR)


def _imported(checkout: Checkout, folder: str) -> bool:
    """Whether training imports a folder or anything in it."""
    return any(file == folder or file.startswith(f"{folder}/") for file in importing(checkout).reached)


def _names_asked(checkout: Checkout, folder: str) -> list[str]:
    """What is imported from a folder that no module in it is called."""
    paper = importing(checkout)
    dotted = paper.modules.dotted(folder)
    asked = [
        name
        for file, step in imports(checkout)
        if file in paper.reached and absolute(paper.modules, file, step) == dotted
        for name, _ in step.names
    ]
    return [name for name in asked if name != "*" and paper.modules.below(folder, name) is None]
