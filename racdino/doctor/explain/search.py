"""Finding the known texts in what somebody's program printed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from racdino.doctor.explain.known import Known, gaps, literals
from racdino.doctor.explain.tracebacks import Section, Sections
from racdino.doctor.report import printable

_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_LONGEST_LINE = 20_000  # characters; of a longer one both ends are looked at
_REPEATED = 200  # characters of a line, or of what stood in a gap, that are printed


@dataclass(frozen=True)
class Match:
    """A known text, where it stands (lines count from 1), and what it says here."""

    known: Known
    line: int
    seen: str
    cause: str
    remedy: str


@dataclass(frozen=True)
class _Hit:
    known: Known
    start: int  # of the line
    line: str
    gap: str
    weight: int  # how much of the line and its traceback had to be as it is
    section: Section

    def order(self) -> tuple[int, int, int, int]:
        """What stopped the program last first; in a chain the deepest cause first."""
        return (self.known.role.value, -self.section.chain, self.section.place, -self.start)


def find(text: str, known: Iterable[Known]) -> list[Match]:
    """Every known problem in ``text`` once, the deepest cause first. Time is linear in the text's length."""
    text = "\n".join(map(_shortened, _COLOURS.sub("", text).replace("\r\n", "\n").replace("\r", "\n").split("\n")))
    matches: dict[str, Match] = {}
    for hit in sorted(_most_specific(_hits(text, known)), key=_Hit.order):
        if hit.known.key not in matches:
            matches[hit.known.key] = _match(hit, text.count("\n", 0, hit.start) + 1)
    return list(matches.values())


def _shortened(line: str) -> str:
    if len(line) <= _LONGEST_LINE:
        return line
    return f"{line[: _LONGEST_LINE // 2]} ... {line[-_LONGEST_LINE // 2 :]}"


def _hits(text: str, known: Iterable[Known]) -> Iterator[_Hit]:
    sections = Sections(text)
    for problem in known:
        context: dict[int, bool] = {}  # by a section's start: whether it says what the problem's `within` asks for
        for words in problem.texts:
            for start, line in _lines_with(text, max(literals(words), key=len)):
                found = gaps(words, line)
                if found is None:
                    continue
                section = sections.at(start)
                if section.start not in context:
                    context[section.start] = text.find(problem.within, section.start, section.end) >= 0
                if context[section.start]:
                    weight = sum(map(len, literals(words))) + len(problem.within)
                    yield _Hit(problem, start, line, found[0] if found else "", weight, section)


def _lines_with(text: str, literal: str) -> Iterator[tuple[int, str]]:
    position = text.find(literal)
    while position >= 0:
        start = text.rfind("\n", 0, position) + 1
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        yield start, text[start:end]
        position = text.find(literal, end)


def _most_specific(hits: Iterable[_Hit]) -> Iterable[_Hit]:
    """One for each line: a text that says more about it than another is the better explanation."""
    best: dict[int, _Hit] = {}
    for hit in hits:
        if hit.start not in best or hit.weight > best[hit.start].weight:
            best[hit.start] = hit
    return best.values()


def _match(hit: _Hit, line: int) -> Match:
    gap = printable(hit.gap[:_REPEATED])
    cause, remedy = (words.replace("{0}", gap) for words in (hit.known.cause, hit.known.remedy))
    return Match(hit.known, line, printable(hit.line.strip()[:_REPEATED]), cause, remedy)
