"""Float64 and any thread count give the fingerprint within its tolerance; a wrong model is outside it."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from racdino.verify import fingerprint
from racdino.verify.errors import VerifyError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def ours() -> fingerprint.Fingerprint:
    return fingerprint.compute(CPU)


def test_float64_agrees_within_the_tolerance(ours):
    assert ours.deviation(fingerprint.compute(CPU, torch.float64)) < ours.tolerance / 10


def test_one_thread_and_another_generator_state_agree(ours):
    threads = torch.get_num_threads()
    torch.manual_seed(1234)
    torch.set_num_threads(1)
    try:
        assert ours.deviation(fingerprint.compute(CPU)) < ours.tolerance / 10
    finally:
        torch.set_num_threads(threads)


def test_a_wrong_kernel_is_far_outside_the_tolerance(ours, monkeypatch):
    from racdino.backbones import interaction

    right = interaction.InteractionBlock.forward
    monkeypatch.setattr(interaction.InteractionBlock, "forward", lambda self, x, *rest: right(self, x * 1.001, *rest))
    assert ours.deviation(fingerprint.compute(CPU)) > 10 * ours.tolerance


@pytest.mark.cuda
def test_the_gpu_agrees_within_the_tolerance(ours):
    assert fingerprint.compute(torch.device("cuda")).deviation(ours) <= ours.tolerance


def test_it_survives_a_report(ours, tmp_path):
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"fingerprint": ours.as_json()}))
    assert fingerprint.read(report) == ours


def test_deviation_is_the_largest_relative_difference(ours):
    maps = (ours.maps[0] * 1.5, *ours.maps[1:])
    assert dataclasses.replace(ours, maps=maps).deviation(ours) == pytest.approx(0.5)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"fingerprint": null}', '{"fingerprint": {"loss": "x"}}'])
def test_another_file_is_refused_with_one_sentence(tmp_path, content):
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(VerifyError, match=r"--compare .*report\.json is no report\.json"):
        fingerprint.read(tmp_path / "report.json")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(VerifyError, match=r"--compare .*gone\.json cannot be read: No such file"):
        fingerprint.read(tmp_path / "gone.json")
