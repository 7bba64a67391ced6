"""What the image's entrypoint says before it starts anything: in a container the machine is different each time."""

from __future__ import annotations

from racdino.doctor.check import CHECKS
from racdino.doctor.environment.subject import Environment
from racdino.doctor.finding import Severity

CODES = ("RD901", "RD201", "RD202", "RD203", "RD902")


def start_warnings(environment: Environment | None = None) -> list[str]:
    """One line for each finding about the machine that is not in order, with its remedy."""
    environment = environment or Environment()
    findings = [finding for code in CODES for finding in CHECKS[code].findings(environment)]
    return [f"{finding.cause}: {finding.remedy}" for finding in findings if finding.severity is not Severity.OK]
