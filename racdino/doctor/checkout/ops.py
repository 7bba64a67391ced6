"""RD620 and RD621: what is compiled for a checkout, and which copy of it answers."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from racdino.doctor.check import Group, Problem, check
from racdino.doctor.checkout.importing import importing, imports
from racdino.doctor.checkout.modules import installed
from racdino.doctor.checkout.paths import edits, is_egg
from racdino.doctor.checkout.subject import Checkout
from racdino.doctor.finding import Severity

OP = "MultiScaleDeformableAttention"
_TAG = re.compile(r"[-.](?:py|cpython-)(\d)\.?(\d+)")


@check(
    "RD620",
    Group.IMPORTS,
    "MultiScaleDeformableAttention is found, and is RacDINO's",
    remedy="delete that line or file; RacDINO's extension has the same functions, takes any batch and half precision",
    of_checkout=True,
)
def operator(checkout: Checkout) -> Iterator[Problem]:
    """Trees of this family bring the operator's sources and often an `.egg` in `ops/dist`, which serves nobody until it
    is installed or put on `sys.path`. It was compiled for one Python, one torch and one GPU: the third problem of the
    integration record. With RacDINO's extension installed nothing of it is needed.

    An error: an `.egg` that a line puts on `sys.path` and that is missing or for another Python; no operator at all.
    A remark: a compiled copy at the top of the checkout, which is found before RacDINO's. Whether RacDINO's own loads
    is checked under RD4xx. An `.egg` that lies unused in `ops/dist` is no problem.
    """
    yield from _eggs(checkout)
    paper = importing(checkout)
    here = paper.modules.find(OP)
    if here and "racdino" not in paper.modules.tops:
        cause = f"`import {OP}` finds this copy, and not RacDINO's"
        yield Problem(cause, place=here, severity=Severity.OPTIONAL)
    if here is None and installed(OP) is None and OP not in paper.modules.tops:
        users = [
            (file, step)
            for file, step in imports(checkout)
            if step.module == OP and file in paper.reached and not step.guarded
        ]
        for file, step in users[:1]:
            egg = next((name for name in checkout.names if name.endswith(".egg") and OP in name), None)
            lies = f"; {egg} lies there and is not installed" if egg else ""
            remedy = "install RacDINO into this environment: python -m pip install --no-build-isolation path/to/RacDINO"
            yield Problem(f"{OP} is not installed{lies}", remedy, f"{file}:{step.line}")


@check(
    "RD621",
    Group.IMPORTS,
    "compiled modules that training imports are for this Python",
    remedy="compile it again in this environment: `python setup.py build_ext --inplace` where its setup.py is",
    of_checkout=True,
)
def for_this_python(checkout: Checkout) -> Iterator[Problem]:
    """A file such as `_op.cpython-38-x86_64-linux-gnu.so` exists for Python 3.8 alone. Any other does not even look at
    it and says `ModuleNotFoundError`, though the file is there.

    Seen in the name of the compiled file that an import asks for. Compiled files that nobody imports are not counted.
    """
    paper = importing(checkout)
    for failure in paper.failures.values():
        found = paper.modules.compiled_for_another(failure.asked)
        if found:
            cause = f"{found} is compiled for {_python(found)}; this is Python {_THIS}"
            yield Problem(cause, place=f"{failure.file}:{failure.step.line}")


_THIS = f"{sys.version_info.major}.{sys.version_info.minor}"


def _eggs(checkout: Checkout) -> Iterator[Problem]:
    for edit in filter(is_egg, edits(checkout)):
        egg, severity = edit.folder or "", Severity.ERROR
        if egg not in checkout.names and egg not in checkout.folders:
            cause = f"`sys.path` gets {egg}, which is not there"
        elif _python(egg) not in {"", f"Python {_THIS}"}:
            cause = f"`sys.path` gets {egg}, which is for {_python(egg)}; this is Python {_THIS}"
        else:
            cause, severity = f"`sys.path` gets {egg}, which answers in place of RacDINO's", Severity.OPTIONAL
        yield Problem(cause, place=f"{edit.file}:{edit.line}", severity=severity)


def _python(name: str) -> str:
    found = _TAG.search(name)
    return f"Python {found[1]}.{found[2]}" if found else ""
