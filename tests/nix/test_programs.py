"""`nix run .#verify` and `.#image` run the tasks of the user's checkout; nix/environment.sh shows them the driver."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "nix/environment.sh"
DRIVER = ("libcuda.so.1", "libnvidia-ml.so.1", "libnvidia-ptxjitcompiler.so.1", "libnvidia-nvvm.so.4")
USE = "racdino_use_libraries /wheels"
SHOW = 'printf "%s|%s|%s\\n" "$*" "$CUDA_HOME" "$LD_LIBRARY_PATH"\n'


def fake_driver(folder: Path, *others: str) -> Path:
    folder.mkdir(parents=True)
    for name in (*DRIVER, *others):
        (folder / name).touch()
    return folder


def bash(home: Path, lines: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run lines after environment.sh, with no GPU, no NixOS and no driver but those that the lines name."""
    folders = f"racdino_gpu_marks=({home}/gpu); racdino_driver_folders=({home}/first {home}/second)"
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(home), "racdino_nixos_mark": str(home / "NIXOS"), **environment}
    return run(f"set -euo pipefail; . {SCRIPT}; {folders}\n{lines}", home, variables)


def run(script: str, cwd: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = ["bash", "-c", script, "app", "FRAME=a b"]
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False)


def test_only_the_drivers_libraries_become_visible(tmp_path):
    host = fake_driver(tmp_path / "second", "libc.so.6", "libstdc++.so.6", "libGL.so.1", "libnvidia-glcore.so.550.1")
    answer = bash(tmp_path, f"{USE}; echo $LD_LIBRARY_PATH", LD_LIBRARY_PATH="/usr/lib/cuda")
    folder = tmp_path / ".cache/racdino/nix-driver"
    assert answer.stdout.strip() == f"/wheels:{folder}"
    assert answer.stderr == ""
    assert {path.name: path.readlink() for path in folder.iterdir()} == {name: host / name for name in DRIVER}


def test_the_first_folder_with_a_driver_wins_and_old_links_go(tmp_path):
    fake_driver(tmp_path / "second", "libdxcore.so")
    bash(tmp_path, USE)
    fake_driver(tmp_path / "first")
    bash(tmp_path, USE)
    links = {path.name: path.readlink().parent for path in (tmp_path / ".cache/racdino/nix-driver").iterdir()}
    assert links == dict.fromkeys(DRIVER, tmp_path / "first")


def test_without_a_gpu_there_is_nothing_to_say(tmp_path):
    answer = bash(tmp_path, f"{USE}; echo $LD_LIBRARY_PATH")
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "/wheels\n", "")


def test_a_gpu_without_driver_libraries_is_one_sentence(tmp_path):
    (tmp_path / "gpu").touch()
    answer = bash(tmp_path, USE)
    assert answer.returncode == 0
    assert answer.stderr.count("\n") == 1
    assert "libcuda.so.1 is in none of" in answer.stderr


def test_nixos_without_nix_ld_is_one_sentence(tmp_path):
    (tmp_path / "NIXOS").touch()
    assert bash(tmp_path, "racdino_check_host", NIX_LD="/lib64/ld.so").returncode == 0
    answer = bash(tmp_path, "racdino_check_host")
    assert answer.returncode == 2
    assert "programs.nix-ld.enable" in answer.stderr


@pytest.mark.parametrize(("python", "status"), [("store/abc-python310/bin/python3.10", 0), ("usr/bin/python3.10", 2)])
def test_an_environment_made_outside_nix_is_refused(tmp_path, python, status):
    target = tmp_path / python
    target.parent.mkdir(parents=True)
    target.touch()
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(target)
    answer = bash(tmp_path, "racdino_check_host", NIX_STORE=str(tmp_path / "store"))
    assert answer.returncode == status
    assert ("made outside Nix" in answer.stderr) == bool(status)


@pytest.fixture
def program(nix, checkout):
    """The text of an app, with the store's paths of the private Nix."""

    def text(name: str) -> str:
        stand_in = Path(__file__).resolve().parent / "stand-in"
        nixpkgs = f"{{ lib = import {stand_in}/lib.nix; outPath = {stand_in}; }}"
        flake = f'import {checkout}/nix {{ system = "x86_64-linux"; source = {checkout}; nixpkgs = {nixpkgs}; }}'
        answer = nix("nix", "eval", "--impure", "--raw", "--expr", f"({flake}).programs.{name}.text")
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    return text


def run_program(text: str, tmp_path: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    make = tmp_path / "bin/make"
    make.parent.mkdir()
    make.write_text(f"#!/bin/sh\n{SHOW}")
    make.chmod(0o755)
    variables = {"PATH": f"{make.parent}:/usr/bin:/bin", "HOME": str(tmp_path), "racdino_nixos_mark": "/nowhere"}
    return run(text, cwd, variables)


@pytest.mark.parametrize("name", ["verify", "image"])
def test_an_app_runs_the_task_of_its_name_in_the_checkout(program, tmp_path, name):
    (tmp_path / "tasks.py").touch()
    answer = run_program(program(name), tmp_path, tmp_path)
    assert answer.returncode == 0, answer.stderr
    arguments, cuda_home, libraries = answer.stdout.strip().split("|")
    assert arguments == f"{name} FRAME=a b"
    assert "-cuda-11.8" in cuda_home
    assert libraries.split(":")[0].endswith("-racdino-wheel-libraries/lib")


@pytest.mark.parametrize("name", ["verify", "image"])
def test_an_app_outside_a_checkout_is_one_sentence_and_status_2(program, tmp_path, name):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    answer = run_program(program(name), tmp_path, elsewhere)
    assert (answer.returncode, answer.stdout, answer.stderr.count("\n")) == (2, "", 1)
    assert f"nix run .#{name}: {elsewhere} has no tasks.py" in answer.stderr
