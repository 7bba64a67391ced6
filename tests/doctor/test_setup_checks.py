"""Step 4 fails exactly when something required is missing, from whatever directory it is run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from racdino.doctor import extension, optional, setup_checks
from racdino.doctor.finding import Finding, Severity, report
from racdino.weights import published

ROOT = Path(__file__).resolve().parents[2]


def run(cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "check_dinov2_setup.py")]
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def test_it_passes_from_any_directory_without_weights_and_data(tmp_path):
    done = run(tmp_path, HOME=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "models.backbones -> racdino.backbones.dino_adapter" in done.stdout
    assert done.stdout.count("\noptional  ") == 3
    assert done.stdout.splitlines()[-1].endswith("3 optional missing.")


def test_a_required_package_that_does_not_import_fails_it(tmp_path):
    (tmp_path / "mmdet3d.py").write_text("raise ImportError('libnothing.so is gone')")
    done = run(tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "ERROR     import.mmdet3d          ImportError: libnothing.so is gone" in done.stdout
    assert "-> make setup" in done.stdout


def test_configs_that_are_gone_fail_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert setup_checks.main(tmp_path) == 1
    assert capsys.readouterr().out.count("There is no config at") == 2


def test_another_projects_extension_is_found_out(monkeypatch):
    import MultiScaleDeformableAttention

    monkeypatch.delattr(MultiScaleDeformableAttention, "ms_deform_attn_backward")
    found = extension.compiled()
    assert found.severity is Severity.ERROR
    assert "lacks ms_deform_attn_backward" in found.cause


def test_weights_and_data_in_place_are_ok(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weight").mkdir()
    (tmp_path / "weight" / "dinov2_vitb14_pretrain.pth").touch()
    (tmp_path / "pretrain").mkdir()
    (tmp_path / "pretrain" / published(optional.RESNET).file).touch()
    for part in optional.DATA_PARTS:
        (tmp_path / optional.DATA_ROOT / part).mkdir(parents=True)
    findings = (optional.dinov2_weights(), optional.resnet_weights(), optional.data_set())
    assert [finding.severity for finding in findings] == [Severity.OK] * 3


@pytest.mark.parametrize(("severity", "status"), [(Severity.OK, 0), (Severity.OPTIONAL, 0), (Severity.ERROR, 1)])
def test_the_exit_status_follows_the_worst_severity(capsys, severity, status):
    findings = [Finding("a.b", Severity.OK, "fine"), Finding("c.d", severity, "cause", "remedy")]
    assert report("command", findings) == status
    assert "-> remedy" in capsys.readouterr().out
