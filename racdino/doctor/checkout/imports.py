"""RD601 to RD606: would the checkout's imports work? Imported on paper, by `importing.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from racdino.doctor.check import Group, Problem, check
from racdino.doctor.checkout.importing import Failure, importing, imports
from racdino.doctor.checkout.modules import Modules
from racdino.doctor.checkout.statements import Import, public_names
from racdino.doctor.checkout.subject import Checkout
from racdino.doctor.mend.plan import ReplaceStatement


@check(
    "RD601",
    Group.IMPORTS,
    "a package imports its own parts with a dot",
    remedy="put a dot before the name: `from .part import Name`",
    mends=True,
    of_checkout=True,
)
def own_parts(checkout: Checkout) -> Iterator[Problem]:
    """Inside a package, `from dino_v2_adapter import DinoAdapter` asks for a top-level module of that name. The part
    that lies in the same folder is found only as `from .dino_v2_adapter import DinoAdapter`, unless the folder happens
    to be the working directory or on `sys.path`. The answer is `ModuleNotFoundError: No module named
    'dino_v2_adapter'`: the first problem of the integration record.

    Seen in the text of files that training imports: the name is no top-level module of the checkout, of the standard
    library or of anything installed, but a neighbour of the file. `import __all__` is replaced by the neighbour's
    public names.
    """
    modules, reached = importing(checkout).modules, importing(checkout).reached
    for file, step in imports(checkout):
        if file in reached and not step.level and not step.guarded and _beside(modules, file, step):
            code = _with_dot(modules, file, step)
            mend = ReplaceStatement(file, step.line, code) if code and step.mendable else None
            cause = f"`{_written(step)}` asks for a top-level module, but {_top(step)} lies beside this file"
            yield Problem(cause, f"write `{code.splitlines()[0]}`" if code else "", f"{file}:{step.line}", mend=mend)


@check(
    "RD602",
    Group.IMPORTS,
    "absolute imports begin at a folder that Python searches",
    remedy="import by the way from this file: `from ..layers import Name`",
    mends=True,
    of_checkout=True,
)
def from_a_root(checkout: Checkout) -> Iterator[Problem]:
    """`from nets.dino_v2_with_adapter.dino_v2.layers import Mlp`, written in a file below `models/backbones/nets`,
    begins in the middle of the tree: training starts in the checkout's folder, where that package is called
    `models.backbones.nets`. Python either does not find `nets`, or, with `models/backbones` on `sys.path`, imports the
    package a second time under another name while it is still being imported under the first. Both end in the circular
    import of the integration record's second problem; the chain of imports that leads back is printed.

    Seen in the text of files that training imports: the name is not at the top of the checkout, but it lies beside one
    of the packages that the file is in. The mend is the relative import of the same module.
    """
    paper = importing(checkout)
    chains = {failure.file: failure.chain for failure in paper.failures.values()}
    for file, step in imports(checkout):
        found = None if step.level or step.guarded else paper.modules.meant(file, step.module)
        if file not in paper.reached or found is None or _beside(paper.modules, file, step):
            continue
        code = _relative(paper.modules, file, step, found)
        mend = ReplaceStatement(file, step.line, code) if code and step.mendable else None
        chain = chains.pop(file, ())  # once for each file
        cause = f"`{_written(step)}` begins in the middle of the tree: the module is {found} from the checkout's folder"
        if chain and any(found.startswith(f"{part}.") for part in chain):
            cause += f", which makes a cycle: {' -> '.join((*chain, step.module))}, which is inside {chain[0]} again"
        yield Problem(cause, f"write `{code}`" if code else "", f"{file}:{step.line}", mend=mend)


@check(
    "RD603",
    Group.IMPORTS,
    "no circular import asks for a name too early",
    remedy="move the import into the function that needs it, or the name into a module that both import",
    of_checkout=True,
)
def cycles(checkout: Checkout) -> Iterator[Problem]:
    """Modules may import each other as long as no name is asked for before its module has come to it. Otherwise
    Python says `ImportError: cannot import name 'X' from partially initialized module ... (most likely due to a
    circular import)`.

    Seen by importing the checkout on paper: module after module, statement after statement, in Python's order. So a
    harmless cycle is not reported, and the chain of one that fails is the order in which the modules import each other.
    """
    for failure in _failures(checkout, "early"):
        chain = " -> ".join((*failure.chain, failure.target))
        cause = f"`{failure.name}` is imported from {failure.target} before it is defined there: {chain}"
        yield Problem(cause, place=f"{failure.file}:{failure.step.line}")


@check(
    "RD604",
    Group.IMPORTS,
    "every imported module exists",
    remedy="correct the name, add the file, or install the package that has it",
    of_checkout=True,
)
def modules_exist(checkout: Checkout) -> Iterator[Problem]:
    """A module that is in the checkout, in the standard library and among the installed packages under no such
    name ends a run with `ModuleNotFoundError`, often minutes after it began.

    Imports inside functions, under `TYPE_CHECKING` and in a `try` that catches their failure are not counted, nor are
    the packages of the locks: where one of those is absent, the environment is wrong and has its own code.
    """
    modules = importing(checkout).modules
    for failure in _failures(checkout, "nowhere"):
        step, file = failure.step, failure.file
        if not step.level and modules.meant(file, step.module):
            continue  # RD601's, or RD602's
        cause = f"`{_written(step)}`: there is no module {failure.target} in the checkout or installed"
        yield Problem(cause, place=f"{file}:{step.line}")


@check(
    "RD605",
    Group.IMPORTS,
    "every name imported from the checkout is defined there",
    remedy="correct the name, or define it in that module",
    of_checkout=True,
)
def names_exist(checkout: Checkout) -> Iterator[Problem]:
    """`from models.backbones import DinoAdapter` needs that name in `models/backbones/__init__.py`; a rename or a
    forgotten line there is an `ImportError` here.

    Seen in the text. A module that fills its names while it runs (`exec`, `globals()`, `__getattr__`, a star
    import from an installed package) is believed to have any name.
    """
    for failure in _failures(checkout, "absent"):
        cause = f"{failure.target} defines no `{failure.name}`"
        yield Problem(cause, place=f"{failure.file}:{failure.step.line}")


def _failures(checkout: Checkout, kind: str) -> list[Failure]:
    """Those of one kind, but of a module that is there and compiled for another Python, which is RD621's."""
    paper = importing(checkout)
    found = (failure for failure in paper.failures.values() if failure.kind == kind)
    return [failure for failure in found if paper.modules.compiled_for_another(failure.asked) is None]


def _top(step: Import) -> str:
    return step.module.split(".")[0]


def _written(step: Import) -> str:
    if not step.names:
        return f"import {step.module}"
    names = ", ".join(name if name == bound else f"{name} as {bound}" for name, bound in step.names)
    return f"from {'.' * step.level}{step.module} import {names}"


def _beside(modules: Modules, file: str, step: Import) -> bool:
    """Whether the module lies in the file's own folder."""
    return modules.meant(file, step.module) == f"{modules.package(file)}.{step.module}"


def _with_dot(modules: Modules, file: str, step: Import) -> str:
    if not step.names:
        if "." in step.module:
            return ""
        return f"from . import {step.module}" + (f" as {step.bound}" if step.bound != step.module else "")
    if [name for name, _ in step.names] != ["__all__"]:
        return _written(step).replace(f"from {step.module}", f"from .{step.module}", 1)
    neighbour = modules.below(str(PurePosixPath(file).parent), step.module)
    tree = modules.checkout.tree(neighbour) if neighbour and neighbour.endswith(".py") else None
    names = public_names(tree) if tree else []
    if not names:
        return ""
    listed = ", ".join(f'"{name}"' for name in names)
    return f"from .{step.module} import {', '.join(names)}\n__all__ = [{listed}]"


def _relative(modules: Modules, file: str, step: Import, full: str) -> str:
    """The same import by the way from the file; empty for a plain import, which binds another name."""
    if not step.names:
        return ""
    here, there = modules.package(file).split("."), full.split(".")
    common = next((n for n, (a, b) in enumerate(zip(here, there)) if a != b), min(len(here), len(there)))  # noqa: B905
    dots = "." * (len(here) - common + 1)
    return _written(Import(step.line, 0, dots + ".".join(there[common:]), step.names))
