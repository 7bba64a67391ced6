"""A Nix without daemon, network or /nix: its store is a temporary folder, and nixpkgs is tests/nix/stand-in."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = Path(__file__).resolve().parent / "stand-in"
FLAKE = ("flake.nix", "flake.lock", "nix", "environment/pins.toml")

Nix = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def nix_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `store` and the settings of a private Nix."""
    if shutil.which("nix") is None:
        pytest.skip("nix is not installed here: apt install nix-bin, then these tests evaluate the flake")
    home = tmp_path_factory.mktemp("nix")
    (home / "nix.conf").write_text("experimental-features = nix-command flakes\n")
    return home


@pytest.fixture(scope="session")
def nix(nix_home: Path) -> Nix:
    """Run a Nix command, its output as text; the exit status is the caller's to check."""
    names = {"NIX_STORE_DIR": "store", "NIX_STATE_DIR": "state", "NIX_LOG_DIR": "log", "NIX_CONF_DIR": "."}
    environment = os.environ | {"HOME": str(nix_home)} | {name: str(nix_home / path) for name, path in names.items()}

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)

    return run


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with what the flake reads, to be changed at will."""
    for name in FLAKE:
        source, target = ROOT / name, tmp_path / "checkout" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    return tmp_path / "checkout"


@pytest.fixture
def flake(nix: Nix, checkout: Path) -> Nix:
    """Run `nix VERB` on the checkout's flake (`#OUTPUT` where given) against the stand-in."""

    def run(*verb: str, output: str = "") -> subprocess.CompletedProcess[str]:
        override = ("--override-input", "nixpkgs", f"path:{STAND_IN}", "--no-write-lock-file")
        return nix("nix", *verb, *override, f"path:{checkout}{output}")

    return run
