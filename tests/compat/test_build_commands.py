"""The record's two ways to build the op forward to the project's own build, and refuse what they cannot do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "models/backbones/nets/ops"


@pytest.fixture
def checkout(tmp_path) -> Path:
    """The forwarder and the script in a checkout whose root setup.py only writes down how it was called."""
    (tmp_path / FOLDER).mkdir(parents=True)
    shutil.copy(ROOT / FOLDER / "setup.py", tmp_path / FOLDER)
    shutil.copy(ROOT / "fix_dinov2_import.sh", tmp_path)
    (tmp_path / "setup.py").write_text(
        "import sys, pathlib\n"
        "with open('calls', 'a') as f: f.write(' '.join(sys.argv[1:]) + '\\n')\n"
        "raise SystemExit(3 if pathlib.Path('broken').exists() else 0)\n"
    )
    return tmp_path


def calls(checkout: Path) -> list[str]:
    return (checkout / "calls").read_text().splitlines() if (checkout / "calls").exists() else []


def forward(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "setup.py", *arguments]
    return subprocess.run(command, cwd=checkout / FOLDER, capture_output=True, text=True, check=False)


def test_build_install_forwards_to_the_root(checkout):
    done = forward(checkout, "build", "install")
    assert done.returncode == 0, done.stderr
    assert calls(checkout)[0] == "build_ext --inplace"
    assert calls(checkout)[1:] in ([], ["develop --no-deps"])  # the second only where racdino is not installed yet


def test_a_failed_build_is_a_failed_command_and_stops(checkout):
    (checkout / "broken").touch()
    done = forward(checkout, "build", "install")
    assert done.returncode == 3
    assert "`build` failed with status 3" in done.stderr
    assert len(calls(checkout)) == 1


@pytest.mark.parametrize("arguments", [(), ("bdist_egg",), ("build", "--prefix=/x")])
def test_other_arguments_are_refused_before_anything_runs(checkout, arguments):
    done = forward(checkout, *arguments)
    assert done.returncode == 2
    assert "usage: python setup.py build install" in done.stderr
    assert calls(checkout) == []


@pytest.fixture
def doctored(checkout: Path) -> Path:
    """The checkout with a doctor and steps that note their calls; with `sick` the doctor cannot mend."""
    for name in ("doctor", "verify"):
        (checkout / "racdino" / name).mkdir(parents=True)
        (checkout / "racdino" / name / "__init__.py").touch()
    (checkout / "racdino/__init__.py").touch()
    note = "import sys, pathlib\nwith open('calls', 'a') as f: f.write({name!r} + ' '.join(sys.argv[1:]) + '\\n')\n"
    (checkout / "racdino/doctor/__main__.py").write_text(
        note.format(name="doctor ") + "raise SystemExit(1 if pathlib.Path('sick').exists() else 0)\n"
    )
    (checkout / "racdino/verify/steps.py").write_text(note.format(name="steps") + "raise SystemExit(4)\n")
    return checkout


def script(checkout: Path, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    command = [str(checkout / "fix_dinov2_import.sh")]
    environment = {**os.environ, "PYTHON": python}
    return subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False)


DOCTOR = "doctor --fix --yes --only RD301,imports,extensions ."


def test_the_script_mends_and_then_runs_the_steps(doctored):
    done = script(doctored)
    assert calls(doctored) == [DOCTOR, "steps"], done.stderr
    assert done.returncode == 4


def test_the_script_runs_no_steps_where_the_doctor_cannot_mend(doctored):
    (doctored / "sick").touch()
    assert script(doctored).returncode == 1
    assert calls(doctored) == [DOCTOR]


def test_an_interpreter_that_fails_fails_the_script(doctored):
    assert script(doctored, python="/bin/false").returncode == 1
    assert calls(doctored) == []
