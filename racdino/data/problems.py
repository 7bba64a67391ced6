"""What is wrong with a data set, by name, and what an info file therefore leaves out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_SHOWN = 5


class Problem(NamedTuple):
    """``kind``: one of ``KINDS``; ``text``: one sentence that begins with ``name``, a file or TABLE/TOKEN."""

    kind: str
    name: str
    text: str


ABSENT, DAMAGED, IMPOSSIBLE = "absent file", "damaged file", "impossible record"
KINDS = (ABSENT, DAMAGED, IMPOSSIBLE)


def unique(problems: Iterable[Problem]) -> list[Problem]:
    """Each problem once: a calibration, say, that several scenes share."""
    return list({(problem.kind, problem.name): problem for problem in problems}.values())


def summary(problems: Sequence[Problem]) -> list[str]:
    """A few lines: of each kind how many, of which folders or tables, and the first by name."""
    lines = []
    for kind in KINDS:
        found = [problem for problem in problems if problem.kind == kind]
        if not found:
            continue
        groups = Counter(problem.name.rpartition("/")[0] for problem in found)
        where = ", ".join(f"{group} {count}" for group, count in sorted(groups.items()))
        lines.append(f"{_counted(len(found), kind)}: {where}")
        lines += [f"  {problem.text}" for problem in found[:_SHOWN]]
        if len(found) > _SHOWN:
            lines.append(f"  and {len(found) - _SHOWN} more")
    return lines


def left_out(counts: Counter[str]) -> str:
    """``3 samples, 2 boxes``."""
    return ", ".join(_counted(count, what) for what, count in sorted(counts.items()) if count)


def _counted(count: int, what: str) -> str:
    plural = what if count == 1 else what + ("es" if what.endswith("x") else "s")
    return f"{count} {plural}"
