"""What a check returns, how it is printed, and what exit status it means."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Severity(Enum):
    """OPTIONAL is something missing that importing, building and testing do without; only ERROR fails a command."""

    OK = "ok"
    OPTIONAL = "optional"
    ERROR = "ERROR"


@dataclass(frozen=True)
class Finding:
    """One check's answer.

    Attributes:
        code: stable dotted name of the check, ``area.subject``.
        severity: see :class:`Severity`.
        cause: what was found, one sentence or a short phrase.
        remedy: the command or edit that mends it; empty when there is nothing to mend.
    """

    code: str
    severity: Severity
    cause: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.severity.value:<8}  {self.code:<22}  {self.cause}"
        return f"{line}\n{'':<8}  -> {self.remedy}" if self.remedy else line


def report(command: str, findings: Iterable[Finding]) -> int:
    """Print findings as they come, then one line; return the exit status (1 exactly when one is an ERROR)."""
    count = dict.fromkeys(Severity, 0)
    for finding in findings:
        print(finding, flush=True)
        count[finding.severity] += 1
    if count[Severity.ERROR]:
        print(f"{command}: {count[Severity.ERROR]} of {sum(count.values())} checks failed.")
        return 1
    optional = f", {count[Severity.OPTIONAL]} optional missing" if count[Severity.OPTIONAL] else ""
    print(f"{command}: {count[Severity.OK]} checks passed{optional}.")
    return 0
