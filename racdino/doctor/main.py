"""Behind ``racdino doctor``: the machine, then what ``check_dinov2_setup.py`` checks."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from racdino.doctor.finding import Finding, report
from racdino.doctor.machine_checks import machine_findings
from racdino.doctor.setup_checks import code_findings, training_findings

PROJECT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Run every check; return the exit status, 1 exactly when something required fails."""
    return report("racdino doctor", findings())


def findings() -> Iterator[Finding]:
    """The code is checked in the working directory where that is a checkout of racdino, else in racdino's own.

    Weights and data are looked for in the working directory, where training would run.
    """
    yield from machine_findings()
    here = Path.cwd()
    checkout = here if (here / "racdino" / "doctor").is_dir() else PROJECT
    sys.path.insert(0, str(checkout))  # models/ is never installed
    os.chdir(checkout)
    yield from code_findings()
    os.chdir(here)
    yield from training_findings()
