"""How the doctor says what it found: group by group as text while it works, or as one JSON object."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from racdino.doctor.check import CHECKS, Check, Group
from racdino.doctor.finding import Finding, Severity

if TYPE_CHECKING:  # Python 3.8 cannot subscript these
    Examined = Iterable[tuple[Check, list[Finding]]]


def print_text(examined: Examined) -> int:
    """Each group's name before its checks run, their result behind it, problems below; the exit status."""
    total: Counter[Severity] = Counter()
    for group, checks in _by_group(examined):
        print(f"{group.text:<34}", end=" ", flush=True)  # seen while the group's checks run
        findings = [finding for _, found in checks for finding in found]
        count = Counter(finding.severity for finding in findings)
        total += count
        print(_counted(count), flush=True)
        for finding in findings:
            if finding.severity is not Severity.OK:
                print(_indented(finding), flush=True)
    print(f"racdino doctor: {_counted(total)}." + (_ADVICE if total[Severity.ERROR] else ""))
    return 1 if total[Severity.ERROR] else 0


_ADVICE = " `racdino doctor --fix` mends what can be mended safely; docs/doctor has a page for each code."


def print_json(examined: Examined, root: Path | None, prefix: str) -> int:
    """One object with every finding; the exit status is in it too."""
    findings = [finding for _, found in examined for finding in found]
    status = 1 if any(finding.severity is Severity.ERROR for finding in findings) else 0
    answer = {
        "environment": prefix,
        "checkout": str(root) if root else None,
        "status": status,
        "findings": [_as_json(finding) for finding in findings],
    }
    print(json.dumps(answer, indent=1))  # escapes what is not ASCII: a file's name need not be valid text
    return status


def printable(text: str) -> str:
    """Text that every terminal takes: names that are not valid UTF-8 and control characters are escaped."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _by_group(examined: Examined) -> Iterator[tuple[Group, Examined]]:
    return groupby(examined, key=lambda pair: pair[0].group)


def _counted(count: Counter[Severity]) -> str:
    parts = [f"{count[Severity.OK]} in order"]
    if count[Severity.OPTIONAL]:
        parts.append(f"{count[Severity.OPTIONAL]} optional")
    if count[Severity.ERROR]:
        parts.append(f"{count[Severity.ERROR]} WRONG")
    return ", ".join(parts)


def _indented(finding: Finding) -> str:
    where = f"{finding.place}: " if finding.place else ""
    mends = "  [--fix]" if finding.mend else ""
    lines = [f"  {finding.severity.value:<9}{finding.code}  {printable(where + finding.cause)}"]
    if finding.remedy:
        lines.append(f"{'':<11}-> {printable(finding.remedy)}{mends}")
    return "\n".join(lines)


def _as_json(finding: Finding) -> dict[str, object]:
    return {
        "code": finding.code,
        "group": CHECKS[finding.code].group.key,
        "severity": finding.severity.value.lower(),
        "cause": finding.cause,
        "remedy": finding.remedy,
        "place": finding.place,
        "mends": finding.mend is not None,
        "page": f"docs/doctor/{finding.code}.md",
    }
