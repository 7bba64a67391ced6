"""Problem 2 of the record: whichever package comes first, the imports close and DinoAdapter is registered once."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECK = """
from mmdet.models.builder import BACKBONES
from racdino.backbones import DinoAdapter
import models.backbones
assert BACKBONES.get("DinoAdapter") is DinoAdapter is models.backbones.DinoAdapter
"""


@pytest.mark.parametrize(
    "order", list(itertools.permutations(["models", "racdino.openmmlab", "mmdet.models"]))[::2], ids=" ".join
)
def test_every_order_of_imports_works(order):
    code = "\n".join(f"import {name}" for name in order) + CHECK
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_plain_torch_parts_know_no_openmmlab():
    """ops, backbones and weights must run where mmcv cannot be installed, so importing them must not import it."""
    code = "import sys, racdino.ops, racdino.backbones, racdino.weights\n"
    code += "assert not {'mmcv', 'mmdet', 'models'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)


def test_only_openmmlab_imports_openmmlab():
    users = {
        path.relative_to(ROOT / "racdino").parts[0]
        for path in (ROOT / "racdino").rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip().startswith(("import mmcv", "import mmdet", "from mmcv", "from mmdet"))
    }
    assert users == {"openmmlab"}
