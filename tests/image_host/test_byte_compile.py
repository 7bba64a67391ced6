"""docker/byte-compile writes the same byte code in every run, or none where that cannot be."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "docker" / "byte-compile"
WORDS = "FOUND = lambda word: word in {'a', 'b', 'c', 'longer', 'words', 'too'}\nANSWER = 42\n"
NOTHING = "FOUND = lambda value: value in {None, 'a', 1}\n"

pytestmark = pytest.mark.skipif(sys.version_info[:2] != (3, 10), reason="the image's Python, and its format, is 3.10")


def byte_code(folder: Path, seed: str) -> dict[str, bytes]:
    folder.mkdir()
    (folder / "words.py").write_text(WORDS)
    (folder / "nothing.py").write_text(NOTHING)
    command = [sys.executable, SCRIPT, "."]
    subprocess.run(command, cwd=folder, env={"PYTHONHASHSEED": seed}, check=True, capture_output=True)
    return {path.name.partition(".")[0]: path.read_bytes() for path in (folder / "__pycache__").glob("*.pyc")}


def test_it_is_the_same_whatever_the_seed_of_the_caller(tmp_path: Path):
    first, second = (byte_code(tmp_path / seed, seed) for seed in ("1", "2"))
    assert first == second


def test_byte_code_that_an_import_left_is_written_anew(tmp_path: Path):
    first = byte_code(tmp_path / "first", "1")
    folder = tmp_path / "second"
    folder.mkdir()
    (folder / "words.py").write_text(WORDS)
    (folder / "nothing.py").write_text(NOTHING)
    imported = [sys.executable, "-c", "import words"]
    subprocess.run(imported, cwd=folder, env={"PYTHONHASHSEED": "7", "PYTHONPATH": "."}, check=True)
    subprocess.run([sys.executable, SCRIPT, "."], cwd=folder, check=True, capture_output=True)
    assert (folder / "__pycache__" / "words.cpython-310.pyc").read_bytes() == first["words"]


def test_it_runs_and_carries_no_time(tmp_path: Path):
    byte_code(tmp_path / "x", "1")
    compiled = next((tmp_path / "x" / "__pycache__").glob("words.*.pyc"))
    assert int.from_bytes(compiled.read_bytes()[4:8], "little") == 1  # by hash, unchecked
    module = runpy.run_path(str(compiled))
    assert module["FOUND"]("longer")
    assert module["ANSWER"] == 42


def test_a_module_whose_set_is_ordered_by_an_address_stays_without(tmp_path: Path):
    assert list(byte_code(tmp_path / "x", "1")) == ["words"]
