"""A checkout of the user's own, mounted at /workspace, is used as it is; our extension and packages serve it."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Image

from scripts.drill import tree

pytestmark = pytest.mark.container


@pytest.fixture
def checkout(folder: Path) -> Path:
    """The layout of the user's tree, small: its own models package, a config and a training program."""
    (folder / "models").mkdir()
    (folder / "models" / "__init__.py").write_text("NAME = 'the checkout'\n")
    (folder / "configs").mkdir()
    (folder / "configs" / "small.py").write_text("lr = 1e-4\n")
    (folder / "train.py").write_text(
        "import argparse, importlib\n"
        "import MultiScaleDeformableAttention, mmcv, mmdet3d, torch\n"
        "parser = argparse.ArgumentParser(); parser.add_argument('--config'); parser.add_argument('--override')\n"
        "options = parser.parse_args()\n"
        "print(importlib.import_module('models').NAME, mmcv.Config.fromfile(options.config).lr, options.override)\n"
        "print(MultiScaleDeformableAttention.__file__)\n"
    )
    return folder


def mount(checkout: Path) -> tuple[str, ...]:
    return ("--mount", f"type=bind,source={checkout},target=/workspace,readonly", "--shm-size", "4g")


def test_the_checkouts_own_train_and_models_win_and_our_extension_serves_them(image: Image, checkout: Path):
    said = image.succeeds("train", "configs/small.py", "--override", "a b", options=mount(checkout))
    own, extension = said.splitlines()[-2:]
    assert own == "the checkout 0.0001 a b"
    assert extension.startswith("/opt/racdino/")


def test_a_config_that_does_not_exist_is_one_sentence(image: Image, checkout: Path):
    answer = image.run("train", "configs/absent.py", options=mount(checkout))
    assert answer.returncode == 2
    assert "configs/absent.py" in answer.stderr.splitlines()[-1]
    assert "Traceback" not in answer.stderr


def test_without_a_checkout_the_images_own_sources_run(image: Image):
    said = image.succeeds("python", "-c", "import models, os; print(models.__file__, os.getcwd())")
    assert said.split() == ["/opt/racdino/models/__init__.py", "/opt/racdino"]


@pytest.fixture
def reconstruction(folder: Path) -> Path:
    """The user's tree as the record has it."""
    return tree.copy(folder / "RACDION")


@pytest.mark.parametrize("step", tree.STEPS, ids="step {}".format)
def test_the_five_steps_pass_in_the_users_own_tree(image: Image, reconstruction: Path, step: str):
    assert "✅" in image.succeeds("sh", "-c", step, options=mount(reconstruction)).splitlines()[-1]


def test_the_users_own_tree_trains(image: Image, reconstruction: Path):
    small = ("pretrained_vit=False", "depth=4", "interaction_indexes=[[0,1],[2,3]]")
    options = ("--steps", "2", "--size", "64", "96", "--cfg-options", *(f"dinov2_adapter.{one}" for one in small))
    said = image.succeeds("train", f"configs/{tree.CONFIGS[1]}", *options, options=mount(reconstruction))
    first, second = (float(line.split()[-1]) for line in said.splitlines() if line.startswith("step "))
    assert second < first


def test_the_doctor_finds_nothing_wrong_with_it(image: Image, reconstruction: Path):
    said = image.succeeds("doctor", "/workspace", options=mount(reconstruction))
    assert "WRONG" not in said


def test_the_doctor_finds_the_records_first_problem(image: Image, reconstruction: Path):
    package = reconstruction / "models" / "backbones" / "nets" / "dino_v2_with_adapter" / "__init__.py"
    package.write_text("from dino_v2_adapter import __all__\n")
    answer = image.run("doctor", "/workspace", options=mount(reconstruction))
    assert answer.returncode == 1
    assert "RD601" in answer.stdout
