"""Shared by the tests of environment/, scripts/ and racdino.environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from racdino.environment.locks import LOCKS
from scripts.locking.resolve import is_network_failure
from scripts.locking.table import Table, read_table
from scripts.uv import UvError, find_uv


@pytest.fixture(scope="session")
def uv() -> Path:
    try:
        return find_uv()
    except UvError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def table() -> Table:
    return read_table(LOCKS / "pins.toml")


@pytest.fixture
def fetch(uv: Path, tmp_path: Path) -> Callable[..., Path]:
    """Put packages into a throw-away folder, or skip where no registry answers."""

    def install(*requirements: str, options: tuple[str, ...] = ("--no-deps",)) -> Path:
        folder = tmp_path / "-".join(requirements).replace("=", "")
        command = [uv, "pip", "install", "--quiet", "--python", sys.executable, "--target", folder, *options]
        answer = subprocess.run([*command, *requirements], capture_output=True, text=True, check=False)
        if answer.returncode and is_network_failure(answer.stderr):
            pytest.skip(f"no package registry answers: {answer.stderr.strip().splitlines()[-1]}")
        assert answer.returncode == 0, answer.stderr
        return folder

    return install


@pytest.fixture
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a line of Python in a process of its own, with ``above`` ahead of what is installed."""

    def run(code: str, above: Path | None = None) -> subprocess.CompletedProcess[str]:
        variables = {**os.environ, "PYTHONPATH": str(above or ""), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=False)

    return run
