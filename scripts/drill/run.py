"""One fault at a time: break a copy, ask the doctor, let it mend, prove what it mended."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from scripts.drill import shadow, tree
from scripts.drill.fault import Fault

CHECKOUT_GROUPS = "imports,configs,data"


@dataclass(frozen=True)
class Outcome:
    """What became of one fault.

    Attributes:
        codes: what the doctor reported beyond what it reports on a healthy copy.
        trouble: why the mend does not count; empty where it does, or where none was promised.
    """

    fault: Fault
    codes: frozenset[str]
    trouble: str = ""

    @property
    def found(self) -> bool:
        """Whether the right check spoke, and no other."""
        return self.codes == {self.fault.code}


@dataclass(frozen=True)
class Patient:
    """A copy, and the interpreter and sources whose doctor looks at it.

    Attributes:
        checkout: None where the environment itself is the patient.
    """

    copy: Path
    python: Path
    project: Path
    checkout: Path | None
    fault: Fault | None = None

    def doctor(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run the doctor as a user would."""
        what = [str(self.checkout), "--only", CHECKOUT_GROUPS] if self.checkout else []
        return subprocess.run(
            [str(self.python), "-m", "racdino.doctor", *what, *options],
            cwd=self.copy,
            env=self._variables(),
            preexec_fn=partial(_limit, self.fault) if self.fault and self.fault.limits else None,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )

    def codes(self, *severities: str) -> frozenset[str]:
        """The checks that found something of these severities."""
        said = self.doctor("--json")
        if said.returncode not in {0, 1}:
            raise RuntimeError(f"the doctor ended with {said.returncode}: {said.stderr[-2000:]}")
        return frozenset(
            found["code"] for found in json.loads(said.stdout)["findings"] if found["severity"] in severities
        )

    def step(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run one of the record's five steps."""
        variables = {"PATH": f"{self.python.parent}:{os.environ['PATH']}", "PYTHONUTF8": "1"}
        return subprocess.run(
            ["sh", "-c", command],
            cwd=self.checkout or self.copy,
            env={**self._variables(), **variables},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )

    def _variables(self) -> dict[str, str]:
        given = (
            {name: value.replace("{copy}", str(self.copy)) for name, value in self.fault.variables.items()}
            if self.fault
            else {}
        )
        return {**os.environ, "PYTHONPATH": str(self.project), "PYTHONDONTWRITEBYTECODE": "1", **given}


def healthy_checkout() -> frozenset[str]:
    """What the doctor reports of the reconstructed tree as it stands: nothing that is an error."""
    with _checkout(None) as patient:
        return patient.codes("optional", "error")


def healthy_environment() -> frozenset[str]:
    """What the doctor reports of a copy of this environment as it stands."""
    with _environment(None) as patient:
        return patient.codes("optional", "error")


def try_checkout(fault: Fault, healthy: frozenset[str]) -> Outcome:
    """The fault in a copy of the reconstructed tree."""
    with _checkout(fault) as patient:
        return _examine(patient, fault, healthy)


def try_environment(fault: Fault, healthy: frozenset[str]) -> Outcome:
    """The fault in a copy of this environment."""
    with _environment(fault) as patient:
        return _examine(patient, fault, healthy)


@contextmanager
def _checkout(fault: Fault | None) -> Iterator[Patient]:
    with tempfile.TemporaryDirectory(prefix="racdino-drill-") as folder:
        checkout = tree.copy(Path(folder) / "RACDION")
        if fault:
            fault.break_it(checkout)
        yield Patient(Path(folder), Path(sys.executable), tree.ROOT, checkout, fault)


@contextmanager
def _environment(fault: Fault | None) -> Iterator[Patient]:
    with shadow.of_this_environment() as copy:
        if fault:
            fault.break_it(copy)
        yield Patient(copy, shadow.python(copy), copy / "project", None, fault)


def _examine(patient: Patient, fault: Fault, healthy: frozenset[str]) -> Outcome:
    codes = patient.codes("optional", "error") - healthy
    return Outcome(fault, codes, _trouble(patient) if fault.mended else "")


def _trouble(patient: Patient) -> str:
    """Mend, prove, mend again, undo: what of that did not go as promised."""
    before = _contents(patient.checkout)
    fixed = patient.doctor("--fix", "--yes")
    if fixed.returncode:
        return f"--fix ended with {fixed.returncode}: {(fixed.stderr or fixed.stdout)[-600:]}"
    if left := patient.codes("error"):
        return f"after --fix the doctor still reports {', '.join(sorted(left))}"
    for step in tree.STEPS if patient.checkout else tree.STEPS[:1]:
        done = patient.step(step)
        if done.returncode:
            return f"after --fix this fails: {step}: {done.stderr[-300:]}"
    mended = _contents(patient.checkout)
    again = patient.doctor("--fix", "--yes")
    if "nothing to mend" not in again.stdout or _contents(patient.checkout) != mended:
        return f"a second --fix changed something: {again.stdout[-300:]}"
    undone = patient.doctor("--undo")
    if undone.returncode or _contents(patient.checkout) != before:
        return f"--undo did not restore everything: {undone.stderr[-300:]}"
    return ""


def _contents(root: Path | None) -> dict[str, str]:
    """sha256 by name of every file of a checkout, but byte code and the doctor's own backups."""
    if root is None:
        return {}
    files = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if "__pycache__" not in path.parts and ".racdino-doctor" not in path.parts
    }


def _limit(fault: Fault) -> None:
    for kind, bounds in fault.limits.items():
        resource.setrlimit(kind, bounds)
