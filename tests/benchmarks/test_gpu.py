"""What benchmarks/gpu.py says where it cannot measure, and what is drawn and written out of what it measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from made_up import made_up

from benchmarks import gpu, plot_gpu
from benchmarks.gpu_results import read
from benchmarks.gpu_table import MARK, cells, figure, fill

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "gpu.json"
READMES = ("README.md", "README.zh-CN.md")
TABLE = f"{MARK}\n\n| what | order | forward | both | GiB |\n|---|---|---|---|---|\n"


def test_without_a_gpu_it_ends_in_one_sentence_and_status_1():
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py")]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 1
    assert result.stdout == ""
    assert [line for line in result.stderr.splitlines() if line.startswith("gpu.py: no NVIDIA GPU")] == [
        result.stderr.splitlines()[-1]
    ]
    assert "Traceback" not in result.stderr


def test_without_nvcc_only_the_op_is_out_of_reach(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("PATH", "")
    assert "nvcc" in gpu.what_is_missing(gpu.MEASUREMENTS)
    assert gpu.what_is_missing(["backbone", "training"]) == ""


@pytest.mark.parametrize("left_out", [(), ("msda",), ("backbone", "training")], ids=["all", "no op", "op alone"])
def test_the_plot_is_a_png_of_less_than_150_kb_of_whatever_was_measured(tmp_path, left_out):
    results = {name: value for name, value in made_up().items() if name not in left_out}
    plot_gpu.draw(results, tmp_path / "gpu.png")
    picture = (tmp_path / "gpu.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 150_000


def test_the_parts_that_are_drawn_are_named_as_training_names_them_and_are_all_of_the_step():
    source = (ROOT / "benchmarks" / "training.py").read_text(encoding="utf-8")
    members = [member for _, members in plot_gpu.PARTS.values() for member in members]
    assert [member for member in members if f', "{member}"),' not in source] == []
    found = plot_gpu.shares({"adapter": 2.0, "mixing": 1.0, "queries": 2.0, "a part that came later": 3.0})
    assert {name: share for name, (_, share) in found.items() if share} == pytest.approx(
        {"adapter": 0.25, "decoder": 0.375, "others": 0.375}
    )


def test_a_table_keeps_its_words_and_gets_the_figures():
    rows = list(cells(made_up()))
    filled = fill(TABLE + "| word | order | old | old | old |\n" * len(rows) + "\nafter\n", made_up()).splitlines()
    assert filled[4] == "| word | order | 12.0 / 48.0 / 240 / 24.0 | 36.0 / 144 / 720 / 72.0 | – |"
    assert filled[4 + len(rows) - 1] == "| word | order | – | 200 (1.25) | 40.0 |"
    assert filled[-1] == "after"


def test_a_training_step_that_did_not_fit_is_marked_in_the_table():
    results = made_up()
    results["training"][2]["adapter_with_cp"] = True  # ours at batch 2
    assert [row[2] for row in cells(results)][-2:] == ["20.0", "40.0 (`with_cp`)"]


@pytest.mark.parametrize("rows", [0, 12, 14])
def test_a_table_of_other_rows_than_the_results_have_is_refused(rows):
    with pytest.raises(ValueError, match="no table of 13 rows"):
        fill(TABLE + "| word | order | old | old | old |\n" * rows, made_up())


def test_figures_have_three_digits():
    assert [figure(value) for value in (3.701, 9.996, 29.14, 99.96, 1447.2)] == ["3.70", "10.0", "29.1", "100", "1447"]


@pytest.mark.parametrize("name", READMES)
def test_the_table_of_a_readme_has_a_row_for_each_of_the_results(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert fill(text, made_up()).count("\n") == text.count("\n")


@pytest.mark.skipif(not RESULTS.exists(), reason=f"{RESULTS.relative_to(ROOT)} is not there: no GPU has written it yet")
@pytest.mark.parametrize("name", READMES)
def test_the_figures_of_a_readme_are_those_of_the_raw_results(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert fill(text, read(RESULTS)) == text


def test_the_command_draws_and_fills(tmp_path, monkeypatch):
    (tmp_path / "gpu.json").write_text(json.dumps(made_up()))
    (tmp_path / "README.md").write_text(TABLE + "| word | order | old | old | old |\n" * 13)
    arguments = ["gpu.json", "gpu.png", "--table", "README.md"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["plot_gpu.py", *arguments])
    assert plot_gpu.main() == 0
    assert (tmp_path / "gpu.png").stat().st_size > 10_000
    assert "old" not in (tmp_path / "README.md").read_text()
