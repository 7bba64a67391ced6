"""Raw GPU results: runs in pieces end in one file, and no file mixes two machines."""

from __future__ import annotations

import pytest
from made_up import CARD, made_up

from benchmarks import gpu_results


@pytest.fixture(autouse=True)
def on_a_card(monkeypatch):
    monkeypatch.setattr(gpu_results, "machine", lambda: dict(CARD))


def test_pieces_written_one_after_another_are_the_whole(tmp_path):
    whole = made_up()
    for measurement in ("training", "msda"):
        gpu_results.add(tmp_path / "gpu.json", measurement, whole[measurement])
    gpu_results.add(tmp_path / "gpu.json", "backbone", whole["backbone"][:3])
    gpu_results.add(tmp_path / "gpu.json", "backbone", whole["backbone"][3:])
    found = gpu_results.read(tmp_path / "gpu.json")
    assert {name: found[name] for name in CARD} == CARD
    for measurement in ("msda", "backbone", "training"):
        assert found[measurement] == [gpu_results._rounded(row) for row in whole[measurement]]


def test_a_case_that_is_run_again_replaces_its_row_and_no_other(tmp_path):
    rows = made_up()["training"]
    gpu_results.add(tmp_path / "gpu.json", "training", rows)
    gpu_results.add(tmp_path / "gpu.json", "training", [{**rows[1], "images_per_s": 1.0}])
    found = gpu_results.read(tmp_path / "gpu.json")["training"]
    assert [row["images_per_s"] for row in found] == [100.0, 1.0, 200.0, 160.0]


def test_a_run_that_is_stopped_leaves_every_row_it_measured(tmp_path):
    rows = made_up()["training"]

    def stopped():
        yield from rows[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gpu_results.collect(tmp_path / "gpu.json", "training", stopped())
    assert gpu_results.read(tmp_path / "gpu.json")["training"] == [gpu_results._rounded(row) for row in rows[:2]]


def test_results_of_another_machine_are_kept_and_the_run_says_so(tmp_path, monkeypatch):
    path = tmp_path / "gpu.json"
    gpu_results.add(path, "training", made_up()["training"])
    before = path.read_bytes()
    monkeypatch.setattr(gpu_results, "machine", lambda: {**CARD, "card": "another"})
    with pytest.raises(SystemExit, match=r"holds results of a card that does not exist.* this is another"):
        gpu_results.add(path, "training", made_up()["training"])
    assert path.read_bytes() == before


def test_six_digits_of_a_figure_are_kept_and_a_row_is_a_line(tmp_path):
    row = {"samples": 1, "structure": "ours", "milliseconds": 1234.56789, "losses_float32": {"loss": 1.23456789e-5}}
    gpu_results.add(tmp_path / "gpu.json", "training", [row])
    assert '\n{"samples":1,"structure":"ours","milliseconds":1234.57,' in (tmp_path / "gpu.json").read_text()
    assert gpu_results.read(tmp_path / "gpu.json")["training"][0]["losses_float32"] == {"loss": 1.23457e-5}
