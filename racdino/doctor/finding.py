"""What a check returns, how it is printed, and what exit status it means."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from racdino.doctor.mend.plan import Mend


class Severity(Enum):
    """OPTIONAL is something missing that importing, building and testing do without; only ERROR fails a command."""

    OK = "ok"
    OPTIONAL = "optional"
    ERROR = "ERROR"


@dataclass(frozen=True)
class Finding:
    """One check's answer.

    Attributes:
        code: of a check of the doctor ``RD101``, whose page is ``docs/doctor/RD101.md``; of a step of
            ``check_dinov2_setup.py`` and ``verify_dinov2_config.py`` a dotted name, ``area.subject``.
        severity: see :class:`Severity`.
        cause: what was found, one sentence or a short phrase.
        remedy: the command or edit that mends it; empty when there is nothing to mend.
        place: ``file`` or ``file:line``, relative to the checkout; empty where it is no file's fault.
        mend: what ``racdino doctor --fix`` would do about it; None where a person must decide.
    """

    code: str
    severity: Severity
    cause: str
    remedy: str = ""
    place: str = ""
    mend: Mend | None = None

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        line = f"{self.severity.value:<8}  {self.code:<22}  {where}{self.cause}"
        return f"{line}\n{'':<8}  -> {self.remedy}" if self.remedy else line


def report(command: str, findings: Iterable[Finding]) -> int:
    """Print findings as they come, then one line; return the exit status (1 exactly when one is an ERROR)."""
    count = dict.fromkeys(Severity, 0)
    for finding in findings:
        print(finding, flush=True)
        count[finding.severity] += 1
    print(f"{command}: {summary(count)}")
    return 1 if count[Severity.ERROR] else 0


def summary(count: dict[Severity, int]) -> str:
    """The last line of a report."""
    if count[Severity.ERROR]:
        return f"{count[Severity.ERROR]} of {sum(count.values())} checks failed."
    optional = f", {count[Severity.OPTIONAL]} optional missing" if count[Severity.OPTIONAL] else ""
    return f"{count[Severity.OK]} checks passed{optional}."
