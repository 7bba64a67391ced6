"""The whole job with a small model: order of the rows, exit status, and what bad arguments do."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from racdino.backbones import DinoAdapter
from racdino.verify import backbone_run, fingerprint, installed, job, op_check, render
from racdino.verify.errors import VerifyError
from racdino.verify.main import main
from racdino.verify.steps import Step


@pytest.fixture
def quick(monkeypatch, rendered):
    """The job without what other tests run in full: the real steps, the installation, ViT-B."""

    def small() -> backbone_run.Model:
        torch.manual_seed(0)
        adapter = DinoAdapter(
            num_heads=2,
            embed_dim=48,
            depth=4,
            interaction_indexes=[[0, 0], [1, 1], [2, 2], [3, 3]],
            pretrained_vit=False,
        )
        return backbone_run.Model(adapter, torch.device("cpu"), "random initialisation", random=True)

    monkeypatch.setattr(job, "STEPS", (Step("echo", "echo proof", "proof"),))
    monkeypatch.setattr(backbone_run, "build", small)
    for check in ("check_versions", "check_files", "check_extension"):
        monkeypatch.setattr(installed, check, lambda: "as locked")
    monkeypatch.setattr(render, "render_frame", lambda: rendered)
    monkeypatch.setattr(op_check, "check_op", lambda *_: op_check.OpErrors((0.0,) * 4, 1e-3))
    mark = fingerprint.Fingerprint(1.0, 2.0, (0.5, 0.5))
    monkeypatch.setattr(fingerprint, "compute", lambda device: mark)
    return mark


def test_all_checks_pass_and_the_report_is_written(quick, tmp_path, capsys):
    assert main(["--output", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("verify: all ")
    assert all(line.startswith("ok ") for line in lines[:-1])
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert content["passed"]
    assert content["frame"]["synthetic"]
    titles = [row["title"] for row in content["rows"]]
    assert titles[0] == "step 1/1: echo"
    looked = [title for title in titles if title == "frame" or title.startswith("backbone")]
    assert looked == ["frame", "backbone: build", "backbone: forward", "backbone: backward"]
    assert (tmp_path / "out" / "report.html").stat().st_size > 50_000


def test_one_failed_check_fails_the_job_and_the_rest_still_runs(quick, tmp_path, capsys, monkeypatch):
    def wrong() -> str:
        raise VerifyError("numpy is wrong.")

    monkeypatch.setattr(installed, "check_versions", wrong)
    monkeypatch.setattr(backbone_run, "build", lambda: 1 / 0)
    assert main(["--output", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "FAIL" in printed
    assert "numpy is wrong." in printed
    assert "ZeroDivisionError" in printed
    assert "not run, because the frame or the model above failed." in printed
    assert printed.splitlines()[-1].startswith("verify: 4 of ")
    assert not json.loads((tmp_path / "report.json").read_text())["passed"]


def test_another_machines_fingerprint_is_compared(quick, tmp_path, capsys):
    other = tmp_path / "other.json"
    stored = {"loss": 1.001, "gradient_norm": 2.0, "maps": [0.5, 0.5], "tolerance": 1e-5}
    other.write_text(json.dumps({"fingerprint": stored}))
    assert main(["--output", str(tmp_path), "--compare", str(other)]) == 1
    assert "differ from the other machine's by 1.0e-03, more than 1e-05" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--frame", "gone"], "--frame gone is not a folder"),
        (["--frame", "empty"], "has no image of FRONT, FRONT_RIGHT"),
        (["--compare", "gone.json"], "--compare gone.json cannot be read"),
        (["--output", "file/out"], "--output file/out cannot be made"),
    ],
)
def test_bad_arguments_are_one_sentence_before_anything_runs(tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(job, "run", lambda *_: pytest.fail("the job began"))
    out = [] if "--output" in arguments else ["--output", "out"]
    assert main([*arguments, *out]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert sentence in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_op_that_is_not_built_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(
        sys.modules, "racdino.verify.job", None
    )  # importing it raises ImportError, as a missing op does
    assert main(["--output", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("verify: import of racdino.verify.job")
    assert captured.err.count("\n") == 1
