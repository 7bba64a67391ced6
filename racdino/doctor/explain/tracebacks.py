"""Where one traceback of a text ends and the next begins, and which of them is the deepest cause."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

_TRACEBACK = "Traceback (most recent call last)"
_CAUSED = "The above exception was the direct cause of the following exception"
_WHILE = "During handling of the above exception, another exception occurred"


@dataclass(frozen=True)
class Section:
    """One traceback, or what stands before the first: ``text[start:end]``.

    Attributes:
        chain: number of its chain; a chain goes on only where Python names a *direct cause*.
        place: its place in the chain; the deepest cause, which Python prints first, has 0.
    """

    start: int
    end: int
    chain: int
    place: int


class Sections:
    """The tracebacks of one text, to be asked by position."""

    def __init__(self, text: str) -> None:
        self._all = _split(text)
        self._starts = [section.start for section in self._all]

    def at(self, position: int) -> Section:
        """The one that holds this position."""
        return self._all[bisect_right(self._starts, position) - 1]


def _split(text: str) -> list[Section]:
    """A traceback that follows *during handling* begins a chain anew: the exception before it had been dealt with."""
    starts, chained = [(0, 0, 0)], False
    for position, heading in _headings(text):
        _, chain, place = starts[-1]
        if heading == _TRACEBACK and chained:  # the line under a heading that has begun this section already
            chained = False
            continue
        chained = heading != _TRACEBACK
        starts.append((position, chain, place + 1) if heading == _CAUSED else (position, chain + 1, 0))
    ends = [start for start, _, _ in starts[1:]] + [len(text)]
    return [Section(start, ends[number], chain, place) for number, (start, chain, place) in enumerate(starts)]


def _headings(text: str) -> list[tuple[int, str]]:
    found = []
    for heading in (_TRACEBACK, _CAUSED, _WHILE):
        position = text.find(heading)
        while position >= 0:
            found.append((position, heading))
            position = text.find(heading, position + len(heading))
    return sorted(found)
