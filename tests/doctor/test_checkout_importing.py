"""What importing on paper says is what Python does: compared with a real interpreter on small trees and random ones."""

from __future__ import annotations

import importlib.util
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from racdino.doctor.checkout import subject
from racdino.doctor.checkout.importing import importing
from racdino.doctor.checkout.subject import Checkout

Tree = dict[str, str]
TREES: dict[str, Tree] = {
    "a name that is defined": {"top/__init__.py": "from .a import x", "top/a.py": "x = 1"},
    "a name that is not": {"top/__init__.py": "from .a import y", "top/a.py": "x = 1"},
    "a module as a name": {"top/__init__.py": "from . import a", "top/a.py": ""},
    "a module that is not there": {"top/__init__.py": "from . import b", "top/a.py": ""},
    "a submodule of a module": {"top/__init__.py": "import top.a.b", "top/a.py": ""},
    "a cycle whose names are there in time": {
        "top/__init__.py": "from . import a",
        "top/a.py": "x = 1\nfrom .b import y",
        "top/b.py": "from .a import x\ny = 2",
    },
    "a cycle whose names are not": {
        "top/__init__.py": "from . import a",
        "top/a.py": "from .b import y\nx = 1",
        "top/b.py": "from .a import x\ny = 2",
    },
    "a cycle of modules, not of names": {
        "top/__init__.py": "from . import a",
        "top/a.py": "import top.b\nx = 1",
        "top/b.py": "import top.a\ny = 2",
    },
    "a package's name asked for from below": {
        "top/__init__.py": "from .a import x\nz = 3",
        "top/a.py": "from top import z\nx = 1",
    },
    "a module asked for from below": {
        "top/__init__.py": "from .a import x",
        "top/a.py": "from top import b\nx = 1",
        "top/b.py": "",
    },
    "everything of a module": {
        "top/__init__.py": "from .a import *\nfrom .b import y",
        "top/a.py": "x = 1",
        "top/b.py": "from top import x\ny = x",
    },
    "everything that __all__ has": {
        "top/__init__.py": "from .a import *\nfrom .b import y",
        "top/a.py": "__all__ = ['z']\nx = z = 1",
        "top/b.py": "from top import x\ny = x",
    },
    "everything but what begins with an underscore": {
        "top/__init__.py": "from .a import *\nfrom .b import y",
        "top/a.py": "_x = 1",
        "top/b.py": "from top import _x as y",
    },
    "a failure that is caught": {
        "top/__init__.py": "try:\n    from .a import y\nexcept ImportError:\n    y = None\nfrom .b import z",
        "top/a.py": "",
        "top/b.py": "from top import y as z",
    },
    "a failure that another kind of handler does not catch": {
        "top/__init__.py": "try:\n    from .a import y\nexcept ValueError:\n    pass",
        "top/a.py": "",
    },
    "an import in a function": {"top/__init__.py": "def f():\n    from .a import y"},
    "an import in a class": {"top/__init__.py": "class A:\n    from .a import y", "top/a.py": ""},
    "an import for type checkers": {
        "top/__init__.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .a import y"
    },
    "a name that a module makes up": {
        "top/__init__.py": "from .a import y",
        "top/a.py": "def __getattr__(name):\n    return 1",
    },
    "a name from exec": {"top/__init__.py": "from .a import y", "top/a.py": "exec('y = 1')"},
    "a name from globals": {"top/__init__.py": "from .a import y", "top/a.py": "globals()['y'] = 1"},
    "a name from a loop": {"top/__init__.py": "from .a import i, j", "top/a.py": "for i in range(3):\n    j = i"},
    "a name from with": {"top/__init__.py": "from .a import f", "top/a.py": "with open(__file__) as f:\n    pass"},
    "a name from unpacking": {"top/__init__.py": "from .a import x, y, z", "top/a.py": "x, (y, *z) = 1, (2, 3)"},
    "a name from an annotation alone": {"top/__init__.py": "from .a import x", "top/a.py": "x: int"},
    "a name from :=": {"top/__init__.py": "from .a import x", "top/a.py": "print((x := 1))"},
    "a name from an import with as": {"top/__init__.py": "from .a import path", "top/a.py": "import os.path as path"},
    "a name of a comprehension alone": {"top/__init__.py": "from .a import k", "top/a.py": "y = [k for k in (1, 2)]"},
    "a dot too many": {"top/__init__.py": "from ..a import x", "a.py": "x = 1"},
    "two dots": {
        "top/__init__.py": "from .sub import x",
        "top/sub/__init__.py": "from ..a import x",
        "top/a.py": "x = 1",
    },
    "a folder without __init__.py": {"top/__init__.py": "from .sub.a import x", "top/sub/a.py": "x = 1"},
    "a package before a module of its name": {
        "top/__init__.py": "from .a import x",
        "top/a.py": "x = 1",
        "top/a/__init__.py": "",
    },
    "a name of a function in a loop": {
        "top/__init__.py": "from .a import z",
        "top/a.py": "for i in (1,):\n    def f():\n        z = 1",
    },
    "a failure inside a module whose failure is caught": {
        "top/__init__.py": "try:\n    from .a import y\nexcept ImportError:\n    pass",
        "top/a.py": "from .b import z\ny = 1",
        "top/b.py": "",
    },
    "the same module again where it is not caught": {
        "top/__init__.py": "try:\n    from .a import y\nexcept ImportError:\n    pass\nfrom .a import y",
        "top/a.py": "from .b import z\ny = 1",
        "top/b.py": "",
    },
    "a name from while ... else": {
        "top/__init__.py": "from .a import z",
        "top/a.py": "while False:\n    pass\nelse:\n    z = 1",
    },
    "__all__ of a module that has none": {"top/__init__.py": "from .a import __all__", "top/a.py": "x = 1"},
}


# Which branch runs is not in the text: no failure is claimed.
UNDECIDED: dict[str, Tree] = {
    "an import under a condition": {"top/__init__.py": "import sys\nif sys.platform == 'vms':\n    from .a import y"},
    "an import in the else of a try": {
        "top/__init__.py": "try:\n    import nowhere\nexcept ImportError:\n    pass\nelse:\n    from nowhere import x"
    },
    "a name of a global statement": {
        "top/__init__.py": "from .a import y",
        "top/a.py": "def f():\n    global y\n    y = 1\nf()",
    },
    "a name from globals in a function": {
        "top/__init__.py": "from .a import y",
        "top/a.py": "def f():\n    globals().update(y=1)\nf()",
    },
}


def write(root: Path, tree: Tree) -> Path:
    for name, text in tree.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


def really(root: Path) -> str:
    """The file of the checkout whose import failed; empty where none did."""
    done = subprocess.run(
        [sys.executable, "-S", "-B", "-c", "import top"], cwd=root, capture_output=True, encoding="utf-8", check=False
    )
    if done.returncode == 0:
        return ""
    assert "ImportError" in done.stderr or "ModuleNotFoundError" in done.stderr, done.stderr
    return re.findall(rf'File "{re.escape(str(root))}/([^"]+)", line', done.stderr)[-1]


def on_paper(root: Path) -> list[str]:
    return [failure.file for failure in importing(Checkout(root)).failures.values()]


@pytest.mark.parametrize("tree", [*TREES.values(), *UNDECIDED.values()], ids=[*TREES, *UNDECIDED])
def test_a_small_tree_imports_on_paper_as_it_does_in_python(tmp_path, tree):
    root = write(tmp_path.resolve(), tree)
    assert on_paper(root)[:1] == [file for file in [really(root)] if file]


def random_tree(seed: int) -> Tree:
    """Five modules in two packages that import names of each other, most of them in some order that works."""
    dice = random.Random(seed)
    modules = ["top", "top.a", "top.b", "top.c", "top.c.d"]
    files = {"top": "top/__init__.py", "top.a": "top/a.py", "top.b": "top/b.py"}
    files |= {"top.c": "top/c/__init__.py", "top.c.d": "top/c/d.py"}
    tree = {}
    for module in modules:
        lines = [f"{module.replace('.', '_')}_{n} = {n}" for n in range(2)]
        for _ in range(dice.randrange(4)):
            other = dice.choice(modules)
            name = f"{other.replace('.', '_')}_{dice.choice('0001')}"
            statement = dice.choice([f"from {other} import {name}", f"import {other}", f"from {other} import *"])
            lines.insert(dice.randrange(len(lines) + 1), statement)
        tree[files[module]] = "\n".join(lines)
    return tree


def test_random_trees_import_on_paper_as_they_do_in_python(tmp_path):
    outcomes = []
    for seed in range(150):
        root = write(tmp_path.resolve() / str(seed), random_tree(seed))
        expected = really(root)
        assert on_paper(root)[:1] == [file for file in [expected] if file], f"seed {seed}"
        outcomes.append(bool(expected))
    assert 20 < sum(outcomes) < 130  # both kinds are among them


@pytest.mark.slow
@pytest.mark.parametrize("package", ["mmcv", "mmdet", "mmdet3d", "mmseg", "torchvision", "timm", "nuscenes", "einops"])
def test_nothing_is_wrong_with_imports_of_packages_that_work(tmp_path, monkeypatch, package):
    spec = importlib.util.find_spec(package)
    if spec is None:
        pytest.skip(f"{package} is not installed")
    shutil.copytree(next(iter(spec.submodule_search_locations or ())), tmp_path / package)
    monkeypatch.setattr(subject, "MOST_READING", 100.0)
    assert importing(Checkout(tmp_path)).failures == {}
