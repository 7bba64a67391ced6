"""RD630 and RD631: what a checkout's code asks of Python, torch and numpy and they no longer have."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version

from racdino.doctor.check import Group, Problem, check
from racdino.doctor.checkout.importing import importing, imports
from racdino.doctor.checkout.modules import installed
from racdino.doctor.checkout.statements import Import, steps
from racdino.doctor.checkout.subject import Checkout


@dataclass(frozen=True)
class Gone:
    """Names that a module had.

    Attributes:
        names: of the module; empty where the module itself is gone.
        since: the first version without them.
        package: whose version that is; empty for Python's.
        instead: what to write, ``{0}`` is the name.
    """

    module: str
    names: frozenset[str]
    since: tuple[int, ...]
    package: str
    instead: str


_ABSTRACT = frozenset(
    [
        *("Callable", "Container", "Hashable", "Iterable", "Iterator", "Mapping", "MutableMapping", "MutableSequence"),
        *("MutableSet", "Sequence", "Set", "Sized"),
    ]
)
TABLE = (
    Gone("collections", _ABSTRACT, (3, 10), "", "collections.abc.{0}"),
    Gone("fractions", frozenset(["gcd"]), (3, 9), "", "math.{0}"),
    Gone("imp", frozenset(), (3, 12), "", "importlib"),
    Gone("distutils", frozenset(), (3, 12), "", "setuptools or packaging.version"),
    Gone("inspect", frozenset(["getargspec"]), (3, 11), "", "inspect.getfullargspec"),
    Gone("numpy", frozenset(["bool", "int", "float", "complex", "object", "str"]), (1, 24), "numpy", "{0}"),
    Gone("numpy", frozenset(["long", "unicode"]), (1, 24), "numpy", "int or str"),
    Gone("torch._six", frozenset(), (2, 0), "torch", "math.inf, str, collections.abc"),
    Gone("torchvision.models.utils", frozenset(), (0, 15), "torchvision", "torch.hub.load_state_dict_from_url"),
    Gone("PIL.Image", frozenset(["ANTIALIAS", "LINEAR", "CUBIC"]), (10, 0), "Pillow", "Image.Resampling"),
    Gone(
        "flash_attn.flash_attn_interface",
        frozenset(
            ["flash_attn_unpadded_func", "flash_attn_unpadded_kvpacked_func", "flash_attn_unpadded_qkvpacked_func"]
        ),
        (2, 0),
        "flash-attn",
        "the same name with varlen in place of unpadded",
    ),
)
OPTIONAL = {"flash_attn": "flash-attn", "xformers": "xformers"}


@check(
    "RD630",
    Group.IMPORTS,
    "nothing is used that the installed versions no longer have",
    remedy="write what took its place",
    of_checkout=True,
)
def still_there(checkout: Checkout) -> Iterator[Problem]:
    """Code that was written for Python 3.8 and torch 1.x asks for names that are gone: `collections.Mapping` since
    Python 3.10, `torch._six` since torch 2.0, `np.bool` and `np.int` since numpy 1.24 (mmdetection3d#2821),
    `Image.ANTIALIAS` since Pillow 10 (detectron2#5010), `flash_attn_unpadded_*` since flash-attn 2.0
    (flash-attention#641).

    Seen in the text of what training imports, against the versions that are installed here. What stands in a `try`
    that catches the failure is not counted.
    """
    for file in sorted(importing(checkout).reached):
        tree = checkout.tree(file) if file.endswith(".py") else None
        for line, gone, name in _uses(tree) if tree else ():
            what = f"{gone.module}.{name}" if name else gone.module
            owner = gone.package or "Python"
            since = ".".join(map(str, gone.since))
            cause = f"`{what}` is gone since {owner} {since}, and this is {owner} {_have(gone.package)}"
            yield Problem(cause, f"write {gone.instead.format(name)}", f"{file}:{line}")


@check(
    "RD631",
    Group.IMPORTS,
    "packages that an environment may lack are imported in a `try`",
    remedy="put the import into `try: ... except ImportError:`, or install it: `make setup` brings xFormers, "
    "`invoke setup --flash-attn` compiles flash-attn",
    of_checkout=True,
)
def optional_packages(checkout: Checkout) -> Iterator[Problem]:
    """flash-attn and xFormers are optional in RacDINO's environments, and neither exists without CUDA. A file that
    imports one of them without asking ends training where it is absent (panacea#29, dinov2#151).

    Seen in the text of what training imports, where the package is not installed.
    """
    reached = importing(checkout).reached
    for file, step in imports(checkout):
        top = step.module.split(".")[0]
        if not step.level and not step.guarded and file in reached and top in OPTIONAL and installed(top) is None:
            cause = f"{OPTIONAL[top]} is not installed, and this imports it without asking"
            yield Problem(cause, place=f"{file}:{step.line}")


def _uses(tree: ast.Module) -> Iterator[tuple[int, Gone, str]]:
    """(line, what is gone, its name; empty for a module) in the order of the text."""
    for line, module, name in sorted(set(_asked(tree))):
        for gone in filter(_is_gone, TABLE):
            if name in gone.names and module == gone.module:
                yield line, gone, name
            elif not gone.names and f"{module}.{name}.".startswith(f"{gone.module}."):
                yield line, gone, ""


def _asked(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """(line, module, name) of every import that is not guarded and every ``alias.name``."""
    aliases = {}
    for step in steps(tree):
        if isinstance(step, Import) and not step.level and not step.guarded:
            if not step.names:
                yield step.line, step.module, ""
                aliases[step.bound] = step.module if step.bound != step.module.split(".")[0] else step.bound
            for name, bound in step.names:
                yield step.line, step.module, name
                aliases[bound] = f"{step.module}.{name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            yield node.lineno, aliases[node.value.id], node.attr


def _is_gone(gone: Gone) -> bool:
    have = tuple(int(part) for part in re.findall(r"\d+", _have(gone.package))[:3])
    return bool(have) and have >= gone.since


@lru_cache(maxsize=None)  # noqa: UP033  (Python 3.8 has no cache)
def _have(package: str) -> str:
    """The version that is installed; empty where none is."""
    if not package:
        return ".".join(map(str, sys.version_info[:3]))
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
