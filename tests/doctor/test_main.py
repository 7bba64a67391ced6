"""The doctor's command line: what it prints, what its status says, and on which Pythons it runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from racdino.doctor.registry import CHECKS
from scripts.drill import tree

ROOT = Path(__file__).resolve().parents[2]


def doctor(*arguments: str | Path, python: str = sys.executable, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-m", "racdino.doctor", *map(str, arguments)],
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return tree.copy(tmp_path / "RACDION")


def test_this_environment_and_a_healthy_checkout_have_no_error(checkout: Path):
    said = doctor(checkout, "--json")
    assert said.returncode == 0, said.stdout + said.stderr
    findings = json.loads(said.stdout)["findings"]
    assert {found["code"] for found in findings} == {code for code, check in CHECKS.items() if not check.live}
    assert {found["severity"] for found in findings} <= {"ok", "optional"}


def test_an_error_is_status_1_and_names_code_place_and_way_on(checkout: Path):
    package = "models/backbones/nets/dino_v2_with_adapter/__init__.py"
    (checkout / package).write_text("from dino_v2_adapter import __all__\n")
    said = doctor(checkout, "--only", "imports")
    assert said.returncode == 1
    assert re.search(rf"ERROR +RD601 +{re.escape(package)}:1: ", said.stdout), said.stdout
    assert "from .dino_v2_adapter import DinoAdapter" in said.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/no/such/folder"], "/no/such/folder is not a folder"),
        (["--only", "RD999"], "no check 'RD999'"),
        (["--skip", "imports,everything"], "no check 'everything'"),
        (["--fix", "--undo"], "not allowed with"),
        (["--no-such-option"], "unrecognized arguments"),
    ],
    ids=" ".join,
)
def test_what_it_cannot_do_is_status_2_and_one_sentence(arguments: list[str], words: str):
    said = doctor(*arguments)
    assert said.returncode == 2
    assert words in said.stderr
    assert "Traceback" not in said.stderr


def test_only_and_skip_take_codes_and_groups(checkout: Path):
    asked = json.loads(doctor(checkout, "--json", "--only", "imports,rd701", "--skip", "RD601").stdout)["findings"]
    groups = {CHECKS[found["code"]].group.key for found in asked}
    assert groups == {"imports", "configs"}
    assert {found["code"] for found in asked if found["code"].startswith("RD7")} == {"RD701"}
    assert "RD601" not in {found["code"] for found in asked}


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10", "3.11", "3.12"])
def test_a_bare_python_reports_what_is_missing(version: str, checkout: Path):
    """Nothing is installed there: the standard library must do, on every Python that a user may have."""
    python = _bare_python(version)
    if python is None:
        pytest.skip(f"no Python {version} without torch on this machine")
    said = doctor(checkout, "--json", python=python)
    assert said.returncode == 1, said.stderr
    errors = {
        found["code"]: found["cause"] for found in json.loads(said.stdout)["findings"] if found["severity"] == "error"
    }
    assert any("torch" in cause for code, cause in errors.items() if code.startswith("RD3"))
    assert not [cause for cause in errors.values() if "this check itself failed" in cause]


def _bare_python(version: str) -> str | None:
    pyenv = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python"))
    for candidate in [*map(str, pyenv), shutil.which(f"python{version}")]:
        probe = "import sys, importlib.util as u; sys.exit(u.find_spec('torch') is not None)"
        if candidate and subprocess.run([candidate, "-I", "-c", probe], check=False).returncode == 0:
            return candidate
    return None


def test_no_code_of_the_checkout_runs(checkout: Path, tmp_path: Path):
    """Every Python file and every config would leave a mark."""
    mark = tmp_path / "ran"
    for path in checkout.rglob("*.py"):
        path.write_text(
            f"open({str(mark)!r}, 'a').write(__file__)\n" + path.read_text(encoding="utf-8"), encoding="utf-8"
        )
    doctor(checkout)
    assert not mark.exists()
    doctor(checkout, "--only", "RD690", "--run-imports")
    assert mark.exists()


def test_running_the_imports_finds_what_reading_cannot(checkout: Path):
    with (checkout / "models" / "racformer.py").open("a", encoding="utf-8") as file:
        file.write("\n\nraise RuntimeError('made while running')\n")
    said = doctor(checkout, "--only", "RD690", "--run-imports")
    assert said.returncode == 1
    assert "made while running" in said.stdout


def test_a_check_that_fails_itself_hides_no_other():
    from racdino.doctor import main

    def broken(subject: object) -> None:
        raise ZeroDivisionError("by zero")

    first, second = [check for check in CHECKS.values() if not check.of_checkout][:2]
    checks = [replace(first, run=broken), second]
    found = {check.code: findings for check, findings in main.examine(checks, None)}
    assert "this check itself failed: ZeroDivisionError: by zero" in found[first.code][0].cause
    assert len(found) == 2
