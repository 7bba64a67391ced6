"""Each fault of the drill's configs, weights and data is found by its check alone, and a healthy tree by none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from racdino.doctor.check import CHECKS
from racdino.doctor.checkout import configs, data, infos, weights
from racdino.doctor.checkout.subject import Checkout
from racdino.doctor.finding import Severity
from scripts.drill import tree
from scripts.drill.faults_configs import FAULTS
from scripts.drill.small_data import data_set

ROOT = Path(__file__).resolve().parents[2]
REGISTERED = (configs, data, infos, weights)  # by importing them


def found(root: Path) -> dict[str, set[Severity]]:
    """Severities by code of what the checks of configs and data say of ``root``."""
    said: dict[str, set[Severity]] = {}
    subject = Checkout(root)
    for code, check in CHECKS.items():
        if code[:3] in {"RD7", "RD8"} and not check.live:
            for finding in check.findings(subject):
                if finding.severity is not Severity.OK:
                    said.setdefault(code, set()).add(finding.severity)
    return said


@pytest.fixture
def copy(tmp_path):
    return tree.copy(tmp_path / "RACDION")


def test_a_healthy_checkout_has_no_error(copy):
    assert found(copy) == {"RD801": {Severity.OPTIONAL}, "RD810": {Severity.OPTIONAL}}
    data_set(copy)
    assert found(copy) == {"RD801": {Severity.OPTIONAL}}


def test_this_repository_has_no_error(tmp_path):
    for name in ("configs", "models", "loaders"):
        shutil.copytree(ROOT / name, tmp_path / name)
    assert found(tmp_path) == {"RD801": {Severity.OPTIONAL}, "RD810": {Severity.OPTIONAL}}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.code} {fault.name}")
def test_the_fault_is_found_alone(copy, fault):
    if fault.code == "RD718":
        for package in ("mmdet", "mmdet3d"):
            pytest.importorskip(package, reason="types are compared with the installed packages'")
    fault.break_it(copy)
    assert found(copy).keys() - {"RD801", "RD810"} == {fault.code}


@pytest.mark.parametrize("package", ["mmdet", "mmdet3d"])
def test_published_configs_have_no_error(tmp_path, package):
    folder = Path(pytest.importorskip(package).__file__).parent / ".mim" / "configs"
    if not folder.is_dir():
        pytest.skip(f"{package} was installed without its configs")
    shutil.copytree(folder, tmp_path / "configs")
    assert [code for code, severities in found(tmp_path).items() if Severity.ERROR in severities] == []
