"""What `nix flake check` builds, run here without building: it passes on this source and notices a broken file."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of this checkout that git knows: what a flake sees."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folder = tmp_path_factory.mktemp("source")
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def check(nix, source, tmp_path):
    """Run one check's build lines on the source; the exit status is the caller's to check."""
    stand_in = Path(__file__).resolve().parent / "stand-in"
    nixpkgs = f"{{ lib = import {stand_in}/lib.nix; outPath = {stand_in}; }}"
    flake = f'import {ROOT}/nix {{ system = "x86_64-linux"; source = "{source}"; nixpkgs = {nixpkgs}; }}'

    def run(name: str) -> subprocess.CompletedProcess[str]:
        lines = nix("nix", "eval", "--impure", "--raw", "--expr", f"({flake}).checks.{name}.buildCommand")
        assert lines.returncode == 0, lines.stderr
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        variables = {"PATH": path, "TMPDIR": str(tmp_path), "out": str(tmp_path / "out")}
        command = ["bash", "-euo", "pipefail", "-c", lines.stdout]
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)

    return run


@pytest.mark.parametrize(("name", "suffix"), [("python-parses", ".py"), ("shell-parses", ".sh")])
def test_the_check_passes_on_this_source_and_not_on_a_broken_file(check, source, tmp_path, name, suffix):
    answer = check(name)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert (tmp_path / "out").exists()
    broken = source / f"broken{suffix}"
    broken.write_text("if (\n")
    answer = check(name)
    broken.unlink()
    assert answer.returncode != 0
    assert "broken" in answer.stdout + answer.stderr
