"""A checkout as the user's is, reconstructed from the record, runs unchanged on our environment and extension."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.drill import tree

SMALL = (  # of the ViT, so that a step on a CPU takes seconds
    "dinov2_adapter.pretrained_vit=False",
    "dinov2_adapter.depth=4",
    "dinov2_adapter.interaction_indexes=[[0,1],[2,3]]",
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tree.copy(tmp_path_factory.mktemp("user") / "RACDION")


def run(checkout: Path, *command: str) -> str:
    bin_folder = Path(sys.executable).parent
    done = subprocess.run(
        command,
        cwd=checkout,
        env={**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("step", tree.STEPS, ids="step {}".format)
def test_each_of_the_five_steps_passes(checkout: Path, step: str):
    assert "✅" in run(checkout, "sh", "-c", step).splitlines()[-1]


@pytest.mark.slow
def test_its_own_models_win_and_our_extension_serves_them(checkout: Path):
    names = "models.backbones, MultiScaleDeformableAttention, racdino"
    said = run(checkout, "python", "-c", f"import {names}; print({names.replace(', ', '.__file__, ')}.__file__)")
    models, extension, racdino = said.split()
    assert Path(models).is_relative_to(checkout)
    assert not Path(extension).is_relative_to(checkout)
    assert Path(extension).parents[1] == Path(racdino).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("program", [["python", "train.py", "--config"], ["racdino", "train"]], ids=" ".join)
def test_it_trains(checkout: Path, program: list[str]):
    options = ["--steps", "2", "--size", "64", "96", "--cfg-options", *SMALL]
    losses = [
        float(line.split()[-1]) for line in run(checkout, *program, f"configs/{tree.CONFIGS[1]}", *options).splitlines()
    ]
    assert losses[1] < losses[0]


def test_nothing_was_written_into_it_but_byte_code(checkout: Path):
    healthy = {path.relative_to(tree.TREE).as_posix() for path in tree.TREE.rglob("*.py")}
    healthy |= {f"configs/{name}" for name in tree.CONFIGS} | {tree.EGG, "README.md"}
    found = {path.relative_to(checkout).as_posix() for path in checkout.rglob("*") if path.is_file()}
    assert {name for name in found if "__pycache__" not in name} == healthy
