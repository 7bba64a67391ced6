"""One fault at a time: break a copy, ask the doctor, let it mend, prove what it mended."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
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
    """A copy and the interpreter whose doctor looks at it; ``checkout`` is None where the environment itself is it."""

    python: Path
    checkout: Path | None
    fault: Fault | None = None

    def doctor(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run the doctor as a user would."""
        what = [str(self.checkout), "--only", CHECKOUT_GROUPS] if self.checkout else []
        return subprocess.run(
            [str(self.python), "-m", "racdino.doctor", *what, *options],
            cwd=tempfile.gettempdir(),
            env={**os.environ, "PYTHONPATH": str(tree.ROOT), **(self.fault.variables if self.fault else {})},
            preexec_fn=partial(_limit, self.fault) if self.fault and self.fault.limits else None,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )

    def codes(self) -> frozenset[str]:
        """Every check that is not content."""
        said = self.doctor("--json")
        if said.returncode not in {0, 1}:
            raise RuntimeError(f"the doctor ended with {said.returncode}: {said.stderr[-2000:]}")
        return frozenset(found["code"] for found in json.loads(said.stdout)["findings"] if found["severity"] != "ok")


def try_checkout(fault: Fault | None, healthy: frozenset[str] = frozenset()) -> Outcome | frozenset[str]:
    """The fault in a copy of the reconstructed tree; without one, the codes of the healthy tree."""
    with tempfile.TemporaryDirectory(prefix="racdino-drill-") as folder:
        copy = tree.copy(Path(folder) / "RACDION")
        return _examine(Patient(Path(sys.executable), copy, fault), copy, fault, healthy)


def try_environment(fault: Fault | None, healthy: frozenset[str] = frozenset()) -> Outcome | frozenset[str]:
    """The fault in a copy of this environment; without one, the codes of the healthy copy."""
    with shadow.of_this_environment() as prefix:
        return _examine(Patient(prefix / "bin" / "python", None, fault), prefix, fault, healthy)


def _examine(patient: Patient, copy: Path, fault: Fault | None, healthy: frozenset[str]) -> Outcome | frozenset[str]:
    if fault is None:
        return patient.codes()
    fault.break_it(copy)
    codes = patient.codes() - healthy
    return Outcome(fault, codes, _trouble(patient, healthy) if fault.mended else "")


def _trouble(patient: Patient, healthy: frozenset[str]) -> str:
    """Mend, prove, mend again, undo: what of that did not go as promised."""
    before = _contents(patient.checkout)
    fixed = patient.doctor("--fix", "--yes")
    if fixed.returncode:
        return f"--fix ended with {fixed.returncode}: {(fixed.stderr or fixed.stdout)[-600:]}"
    if left := patient.codes() - healthy:
        return f"after --fix the doctor still reports {', '.join(sorted(left))}"
    if failed := _failing_step(patient):
        return f"after --fix this fails: {failed}"
    mended = _contents(patient.checkout)
    again = patient.doctor("--fix", "--yes")
    if "nothing to mend" not in again.stdout or _contents(patient.checkout) != mended:
        return "a second --fix changed something"
    undone = patient.doctor("--undo")
    if undone.returncode or _contents(patient.checkout) != before:
        return f"--undo did not restore everything: {undone.stderr[-300:]}"
    return ""


def _failing_step(patient: Patient) -> str:
    steps: Sequence[str] = tree.STEPS if patient.checkout else tree.STEPS[:1]
    for step in steps:
        done = subprocess.run(
            ["sh", "-c", step],
            cwd=patient.checkout or tempfile.gettempdir(),
            env={**os.environ, "PATH": f"{patient.python.parent}:{os.environ['PATH']}", "PYTHONUTF8": "1"},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        if done.returncode:
            return f"{step}: {done.stderr[-300:]}"
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
