"""flake.nix: its outputs evaluate with nothing that nixpkgs lacks, and say what environment/pins.toml says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import tomli

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = Path(__file__).resolve().parent / "stand-in"
PINS = tomli.loads((ROOT / "environment/pins.toml").read_text(encoding="utf-8"))
SYSTEM = "x86_64-linux"
NIX_FILES = [ROOT / "flake.nix", *sorted((ROOT / "nix").glob("*.nix")), *sorted(STAND_IN.glob("*.nix"))]
SHELL_HOOK = f"#devShells.{SYSTEM}.default.shellHook"


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize("path", NIX_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_nix_file_parses(nix, path):
    answer = nix("nix-instantiate", "--parse", str(path))
    assert answer.returncode == 0, answer.stderr


def test_every_output_evaluates(flake):
    answer = flake("flake", "check", "--no-build")
    assert answer.returncode == 0, answer.stderr


def test_the_outputs_are_the_promised_ones(flake):
    outputs = json.loads(flake("flake", "show", "--json").stdout)
    assert outputs["devShells"][SYSTEM].keys() == {"default"}
    assert outputs["apps"][SYSTEM].keys() == {"verify", "image"}
    assert outputs["checks"][SYSTEM].keys() == {"pins", "python-parses", "shell-parses"}
    assert outputs["formatter"][SYSTEM]["name"].startswith("nixpkgs-fmt")


@pytest.mark.parametrize("old", ["pkgs.gnumake", "lib.makeBinPath", "python.pkgs.invoke", "pkgs.libjpeg_turbo.out"])
def test_the_stand_in_refuses_what_nixpkgs_does_not_have(flake, checkout, old):
    replace(checkout / "nix/environment.nix", old, f"{old}-of-another-release")
    answer = flake("flake", "check", "--no-build")
    assert answer.returncode != 0
    assert "-of-another-release' missing" in answer.stderr


def test_unfree_software_is_cuda_only(flake, checkout):
    replace(checkout / "nix/default.nix", ") pins.cudaComponents", ') [ "cuda_nvcc" ]')
    answer = flake("eval", "--raw", output=SHELL_HOOK)
    assert "cuda_cudart is unfree" in answer.stderr
    assert not re.search(r"allowUnfree\s*=", (ROOT / "nix/default.nix").read_text(encoding="utf-8"))


def test_the_shell_has_the_pinned_toolchain(flake):
    hook = flake("eval", "--raw", output=SHELL_HOOK).stdout
    path = re.search(r"^export PATH=(\S+):\$PATH$", hook, re.MULTILINE)
    assert path is not None
    programs = [re.sub(r"^.*/store/[0-9a-z]{32}-", "", folder) for folder in path[1].split(":")]
    expected = [f"gcc{PINS['cuda']['gcc-max']}", "binutils", f"cuda-{PINS['cuda']['nvcc']}", "python310", "invoke"]
    expected += [f"uv-{PINS['bootstrap']['uv']['version']}", "git", "gnumake"]
    assert all(program.startswith(name) for program, name in zip(programs, expected, strict=True)), programs
    for name in ("CUDA_HOME", "CC", "CXX", "CUDAHOSTCXX"):
        assert re.search(rf"^export (.* )?{name}=\S+", hook, re.MULTILINE), name


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('nvcc = "11.8.89"', 'nvcc = "11.8.90"', "pins.toml says"),
        ('gcc-max = "11"', 'gcc-max = "12"', "gcc12"),
        ('[python]\nversion = "3.10"', '[python]\nversion = "3.9"', "python39"),
    ],
)
def test_a_pin_that_nixpkgs_does_not_have_is_named(flake, checkout, old, new, complaint):
    replace(checkout / "environment/pins.toml", old, new)
    answer = flake("flake", "check", "--no-build")
    assert answer.returncode != 0
    assert complaint in answer.stderr


def test_uv_is_the_pinned_program_by_its_hash(nix):
    row = PINS["bootstrap"]["uv"]
    pkgs = f'import {STAND_IN} {{ system = "{SYSTEM}"; config = {{ }}; }}'
    uv = f"import {ROOT}/nix/uv.nix {{ pkgs = {pkgs}; pins = import {ROOT}/nix/pins.nix; }}"
    fetched = f"with ({uv}).src; [ url outputHash outputHashAlgo outputHashMode ]"
    answer = nix("nix", "eval", "--impure", "--json", "--expr", fetched)
    assert json.loads(answer.stdout) == [row["release"], row["program-sha256"], "sha256", "flat"], answer.stderr


def test_the_lock_belongs_to_the_flake():
    lock = json.loads((ROOT / "flake.lock").read_text(encoding="utf-8"))
    attributes = json.loads((STAND_IN / "attributes.json").read_text(encoding="utf-8"))
    text = (ROOT / "flake.nix").read_text(encoding="utf-8")
    url = re.search(r'inputs\.nixpkgs\.url = "github:([^/]+)/([^/]+)/([^"]+)";', text)
    assert url is not None
    repository = {"type": "github", "owner": url[1], "repo": url[2]}
    assert lock["version"] == 7
    assert lock["nodes"].keys() == {lock["root"], "nixpkgs"}
    assert lock["nodes"]["root"] == {"inputs": {"nixpkgs": "nixpkgs"}}
    node = lock["nodes"]["nixpkgs"]
    assert node["original"] == repository | {"ref": url[3]}
    assert node["locked"] | repository == node["locked"]
    assert re.fullmatch(r"sha256-[A-Za-z0-9+/]{43}=", node["locked"]["narHash"])
    assert node["locked"]["rev"] == attributes["revision"]


def test_nix_reads_the_lock_and_finds_it_complete(nix, checkout):
    """Locked by hand: a Nix that wanted another input or another form would say that it updated the file."""
    answer = nix("nix", "flake", "metadata", "--json", "--no-update-lock-file", f"path:{checkout}")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["locks"] == json.loads((ROOT / "flake.lock").read_text(encoding="utf-8"))
