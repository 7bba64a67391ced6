"""Importing a checkout on paper: module after module, statement after statement, as Python would.

A module is entered when it is first imported and its names come into being in the order of its text. So the two kinds
of circular import come apart: harmless ones, whose names are there in time, and those that raise ImportError.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from racdino.doctor.checkout.modules import Modules, outside
from racdino.doctor.checkout.statements import Import, Opaque, Step, all_names, bound_names, steps
from racdino.doctor.checkout.subject import Checkout

_ALWAYS = frozenset(
    ["__name__", "__file__", "__doc__", "__path__", "__dict__", "__package__", "__spec__", "__loader__"]
)
_DEEPEST = 200  # imports inside each other; a checkout has about ten


@dataclass
class _State:
    names: set[str] = field(default_factory=set)
    open: bool = False  # may have any name
    done: bool = False
    guarded: bool = False  # imported where a failure breaks nothing, so that none was noted


@dataclass(frozen=True)
class Failure:
    """One import that would fail.

    Attributes:
        kind: ``nowhere``: there is no such module; ``early``: the name is not there yet; ``absent``: it never is.
        chain: the modules that import each other down to this one, dotted, from the entry on.
        name: the name that is asked for; empty for a plain import.
        target: the module that it is asked of, dotted.
    """

    kind: str
    file: str
    step: Import
    chain: tuple[str, ...]
    target: str
    name: str = ""

    @property
    def asked(self) -> str:
        """The module that may have been meant."""
        return f"{self.target}.{self.name}" if self.name else self.target


class Importing:
    """What importing each entry of the checkout would do."""

    def __init__(self, modules: Modules) -> None:
        self.modules = modules
        self.failures: dict[tuple[str, int, str, str], Failure] = {}
        self.reached: set[str] = set()
        self._guards = 0  # how many of the imports that are under way are guarded
        self._steps: dict[str, list[Step] | None] = {}
        for entry in modules.tops:
            self._states: dict[str, _State] = {}
            file = modules.find(entry)
            if file:
                self._enter(file, ())

    def _enter(self, file: str, chain: tuple[str, ...]) -> _State:
        state = self._states.get(file)
        if state is not None and (self._guards or not state.guarded or not state.done):
            return state
        state = self._states[file] = _State(set(_ALWAYS), guarded=self._guards > 0)
        self.reached.add(file)
        todo = self._steps_of(file)
        if todo is None or len(chain) > _DEEPEST:
            state.open = state.done = True
            return state
        chain = (*chain, self.modules.dotted(file))
        for step in todo:
            if isinstance(step, Opaque):
                state.open = True
            elif isinstance(step, Import):
                self._guards += step.guarded
                self._run(file, step, state, chain)
                self._guards -= step.guarded
            state.names |= bound_names(step)
        state.done = True
        return state

    def _run(self, file: str, step: Import, state: _State, chain: tuple[str, ...]) -> None:
        target = absolute(self.modules, file, step)
        if target is None:
            state.open = True
            if not self.modules.inside_package:
                self._fail(Failure("nowhere", file, step, chain, "." * step.level + step.module))
            return
        top = target.split(".")[0]
        if step.level == 0 and self.modules.find(top) is None:
            if not outside(top):
                self._fail(Failure("nowhere", file, step, chain, target))
                state.open = True
                meant = self.modules.meant(file, step.module)
                if meant:
                    self._enter_all(meant, chain)  # so that what else is wrong behind it is found at once
            state.open = state.open or ("*", "*") in step.names
            return
        found = self._enter_all(target, chain)
        if found is None:
            state.open = True
            self._fail(Failure("nowhere", file, step, chain, target))
            return
        for name, bound in step.names:
            if name == "*":
                self._star(found, state, chain)
            elif not self._has(found, name, chain):
                kind = "absent" if self._states[found].done else "early"
                self._fail(Failure(kind, file, step, chain, target, name))
            state.names.add(bound)

    def _enter_all(self, target: str, chain: tuple[str, ...]) -> str | None:
        """Import a module and, before it, the packages that it lies in; the file, or None where one is missing."""
        parts = target.split(".") if target else []
        file = "__init__.py" if not parts else None
        for end in range(1, len(parts) + 1):
            file = self.modules.find(".".join(parts[:end]))
            if file is None:
                return None
            self._enter(file, chain)
            if end > 1:
                parent = self.modules.find(".".join(parts[: end - 1]))
                if parent in self._states:
                    self._states[parent].names.add(parts[end - 1])
        return file if file in self._states else None

    def _has(self, file: str, name: str, chain: tuple[str, ...]) -> bool:
        state = self._states[file]
        if state.open or name in state.names:
            return True
        inside = (
            self.modules.find(f"{self.modules.dotted(file)}.{name}")
            if not file.endswith(".py") or file.endswith("/__init__.py")
            else None
        )
        if inside is None:
            return False
        self._enter(inside, chain)
        state.names.add(name)
        return True

    def _star(self, file: str, state: _State, chain: tuple[str, ...]) -> None:
        source = self._states[file]
        tree = self.modules.checkout.tree(file) if file.endswith(".py") and "__all__" in source.names else None
        listed = all_names(tree) if tree else None
        if source.open or (tree and listed is None):
            state.open = True
        elif listed is None:
            state.names |= {name for name in source.names if not name.startswith("_")}
        else:
            state.names |= {name for name, _ in listed if self._has(file, name, chain)}

    def _steps_of(self, file: str) -> list[Step] | None:
        if file not in self._steps:
            tree = self.modules.checkout.tree(file) if file.endswith(".py") else None
            self._steps[file] = None if tree is None else steps(tree)
        return self._steps[file]

    def _fail(self, failure: Failure) -> None:
        if not self._guards:
            self.failures.setdefault((failure.file, failure.step.line, failure.target, failure.name), failure)


def absolute(modules: Modules, file: str, step: Import) -> str | None:
    """The dotted name that an import means: relative ones start at the file's own package; None where they leave it."""
    if step.level == 0:
        return step.module
    package = modules.package(file).split(".") if modules.package(file) else []
    if step.level > len(package):
        return None
    base = package[: len(package) - (step.level - 1)]
    return ".".join([*base, *([step.module] if step.module else [])])


@lru_cache(maxsize=2)
def importing(checkout: Checkout) -> Importing:
    """The checkout imported on paper, once for all checks."""
    return Importing(Modules(checkout, ("", *literal_paths(checkout))))


def literal_paths(checkout: Checkout) -> tuple[str, ...]:
    """Folders of the checkout that its own ``sys.path`` edits add, where the text says which."""
    from racdino.doctor.checkout.paths import edits

    folders = (edit.folder for edit in edits(checkout) if edit.folder is not None)
    return tuple(dict.fromkeys(folder for folder in folders if folder))


@lru_cache(maxsize=2)
def imports(checkout: Checkout) -> tuple[tuple[str, Import], ...]:
    """(file, import) at the top level of every file, whether it is reached or not."""
    trees = ((file, checkout.tree(file)) for file in checkout.files(".py"))
    return tuple((file, step) for file, tree in trees if tree for step in steps(tree) if isinstance(step, Import))
