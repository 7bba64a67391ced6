"""What is known about one error's text."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

GAP = "…"  # stands for anything, on the same line


class Role(Enum):
    """Which of several known texts is told first: what stopped the program, then what followed from it, then notes."""

    CAUSE = 0
    CONSEQUENCE = 1  # says that something failed; the reason, if it is in the text, stands elsewhere
    NOTE = 2  # a warning with which the program goes on


@dataclass(frozen=True)
class Known:
    """One known problem.

    Attributes:
        key: stable, ``RX301``.
        texts: any of these, each on one line; ``…`` in it stands for anything. Texts and not regular expressions, so
            that the time is linear whatever is read.
        cause, remedy: one sentence each, without a full stop; ``{0}`` is what stood in the text's first gap.
        source: where it was reported or can be read.
        doctor: the check that finds it before it happens, ``RD301``; empty where none can.
        within: what the same traceback must say too; empty where the text alone is enough.
    """

    key: str
    texts: tuple[str, ...]
    cause: str
    remedy: str
    source: str
    doctor: str = ""
    within: str = ""
    role: Role = Role.CAUSE


def gaps(text: str, line: str) -> list[str] | None:
    """What stands in each gap of ``text`` where ``line`` has it; None where it has not."""
    first, *pieces = text.split(GAP)
    start = line.find(first)
    if start < 0:
        return None
    end, found = start + len(first), []
    for piece in pieces:
        start = line.find(piece, end) if piece else len(line)
        if start < 0:
            return None
        found.append(line[end:start])
        end = start + len(piece)
    return found


def literals(text: str) -> list[str]:
    """The pieces of a text between its gaps."""
    return [piece for piece in text.split(GAP) if piece]
