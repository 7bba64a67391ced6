"""What the checks of a checkout's imports and files say, and where they keep silent."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from racdino.doctor.checkout import gone, layout, ops
from racdino.doctor.checkout.subject import Checkout
from racdino.doctor.finding import Finding, Severity
from racdino.doctor.mend.plan import ReplaceStatement
from racdino.doctor.registry import CHECKS
from scripts.drill import tree
from scripts.drill.faults_checkout import FAULTS

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS_AND_DATA = {"RD801", "RD810"}  # which a tree without them rightly lacks


def found(root: Path, *codes: str) -> list[Finding]:
    """What the checks with these codes find that is not OK; all that look at a checkout where none is named."""
    read = Checkout(root)
    checks = [check for check in CHECKS.values() if check.of_checkout and not check.live]
    wanted = [check for check in checks if check.code in codes or not codes]
    return [finding for check in wanted for finding in check.findings(read) if finding.severity is not Severity.OK]


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return tree.copy(tmp_path / "RACDION")


def test_nothing_is_wrong_with_a_healthy_checkout(checkout):
    assert {finding.code for finding in found(checkout)} == WEIGHTS_AND_DATA


def test_nothing_is_wrong_with_this_repository():
    assert {finding.code for finding in found(ROOT)} - WEIGHTS_AND_DATA - {"RD813"} == set()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_found_by_its_check_alone(checkout, fault):
    fault.break_it(checkout)
    assert {finding.code for finding in found(checkout)} - WEIGHTS_AND_DATA == {fault.code}


@pytest.mark.parametrize("version", ["3.8.18", "3.12.1"])
def test_another_python_without_any_package_finds_the_record_s_import_faults_as_well(checkout, version):
    python = Path.home() / f".pyenv/versions/{version}/bin/python"
    if not python.exists():
        pytest.skip(f"{python} is not there")
    for fault in FAULTS:
        if fault.record in {1, 2}:
            fault.break_it(checkout)
    command = [str(python), "-m", "racdino.doctor", str(checkout), "--only", "RD601,RD602,RD603,RD604,RD605"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout.count("RD601") == 1
    assert done.stdout.count("RD602") == 3
    assert done.stdout.count("RD60") == 4


def test_the_cycle_of_the_record_is_printed_as_a_chain(checkout):
    next(fault for fault in FAULTS if fault.record == 2).break_it(checkout)
    chain = ["models", "models.backbones", "models.backbones.nets", "models.backbones.nets.dino_v2_with_adapter"]
    assert f"cycle: {' -> '.join(chain)} -> " in found(checkout, "RD602")[0].cause
    assert found(checkout, "RD602")[0].cause.endswith("dino_v2.layers, which is inside models again")


@pytest.mark.parametrize(
    ("written", "mended"),
    [
        ("from part import __all__", 'from .part import A, b\n__all__ = ["A", "b"]'),
        ("from part import A as B, b", "from .part import A as B, b"),
        ("from part.sub import x", "from .part.sub import x"),
        ("import part", "from . import part"),
        ("import part as p", "from . import part as p"),
        ("import part.sub", ""),
        ("x = 1; from part import A", ""),
        ("import part, os", ""),
    ],
)
def test_the_mend_of_an_import_without_its_dot(tmp_path, written, mended):
    files = {"package/__init__.py": written, "package/part/__init__.py": "from .sub import x\nA = b = 1\n_c = 2\n"}
    write(tmp_path, {**files, "package/part/sub.py": "x = 1"})
    if "__all__" in written:
        write(tmp_path, {"package/part/__init__.py": "A = b = 1\n__all__ = ['A', 'b']\n"})
    mend = found(tmp_path, "RD601")[0].mend
    assert mend == (ReplaceStatement("package/__init__.py", 1, mended) if mended else None)


def test_a_name_beside_the_file_that_is_also_at_the_top_or_installed_is_no_fault(tmp_path):
    files = {"package/__init__.py": "import part, json, yaml_like", "package/part.py": "", "package/json.py": ""}
    write(tmp_path, {**files, "part.py": "", "yaml_like.py": "", "package/yaml_like.py": ""})
    assert found(tmp_path) == []


def test_a_folder_on_sys_path_serves_absolute_imports(tmp_path):
    edit = "import os, sys\nsys.path.append(os.path.join(os.path.dirname(__file__), 'lib'))\nimport helper\n"
    write(tmp_path, {"train.py": edit, "lib/helper.py": "", "lib/unused.py": "import helper"})
    assert [finding.code for finding in found(tmp_path)] == ["RD607"]


def test_an_operator_that_nobody_installed_names_the_egg(checkout, monkeypatch):
    monkeypatch.setattr(ops, "installed", lambda name: None)
    (problem,) = found(checkout, "RD620")
    assert problem.severity is Severity.ERROR
    assert problem.place.startswith("models/backbones/nets/ops/functions/ms_deform_attn_func.py:")
    assert f"{tree.EGG} lies there and is not installed" in problem.cause


def test_an_installed_package_with_the_name_of_the_checkout_s(checkout, monkeypatch):
    monkeypatch.setattr(layout, "installed", lambda name: f"/venv/lib/{name}/__init__.py" if name == "models" else None)
    (problem,) = found(checkout, "RD613")
    assert problem.severity is Severity.OPTIONAL
    (checkout / "models/__init__.py").unlink()
    (problem,) = found(checkout, "RD613")
    assert problem.severity is Severity.ERROR
    assert problem.cause == "`import models` finds /venv/lib/models/__init__.py, since models has no `__init__.py`"


@pytest.mark.parametrize(
    ("code", "versions", "name"),
    [
        ("import numpy as np\nx = np.bool\n", {"numpy": "1.24.0"}, "numpy.bool"),
        ("import numpy\ndef f():\n    return numpy.int(1)\n", {"numpy": "1.26.4"}, "numpy.int"),
        ("from numpy import long\n", {"numpy": "2.0"}, "numpy.long"),
        ("import torch._six\n", {"torch": "2.0.0"}, "torch._six"),
        ("from torch import _six\n", {"torch": "2.0.0"}, "torch._six"),
        ("from PIL import Image\nx = Image.ANTIALIAS\n", {"Pillow": "10.1.0"}, "PIL.Image.ANTIALIAS"),
        ("import numpy as np\nx = np.bool\n", {"numpy": "1.23.5"}, ""),
        ("import numpy as np\nx = np.bool\n", {}, ""),
        ("import numpy as np\nx = np.bool_\n", {"numpy": "1.24.0"}, ""),
        (
            "try:\n    from torch._six import inf\nexcept ImportError:\n    from math import inf\n",
            {"torch": "2.0.0"},
            "",
        ),
        ("from torch._sixteen import x\n", {"torch": "2.0.0"}, ""),
        ("class np:\n    bool = 1\nx = np.bool\n", {"numpy": "1.24.0"}, ""),
    ],
)
def test_names_that_are_gone_by_the_versions_that_are_installed(tmp_path, monkeypatch, code, versions, name):
    monkeypatch.setattr(gone, "_have", lambda package: versions.get(package, ""))
    problems = found(write(tmp_path, {"train.py": code}), "RD630")
    assert [problem.cause.split("`")[1] for problem in problems] == ([name] if name else [])


def test_the_table_of_what_is_gone_agrees_with_the_packages_that_are_installed():
    """Each row either is newer than what is installed, and then the name is there, or it is gone here as well."""
    lines: dict[str, bool] = {}
    for row in gone.TABLE:
        if gone._have(row.package):
            names = row.names or [""]
            lines |= {
                (f"from {row.module} import {n}" if n else f"import {row.module}"): gone._is_gone(row) for n in names
            }
    code = (
        "import warnings; warnings.simplefilter('ignore')\nfor line in LINES:\n"
        "    try: exec(line)\n    except (ImportError, AttributeError): print(line)\n"
    )
    command = [sys.executable, "-c", code.replace("LINES", repr(list(lines)))]
    said = subprocess.run(command, cwd="/", capture_output=True, encoding="utf-8", check=True).stdout
    assert set(said.splitlines()) == {line for line, is_gone in lines.items() if is_gone}
    assert len(lines) > 20


@pytest.fixture
def shared():
    """A folder that every user may enter, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="racdino-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a folder that belongs to somebody else")
def test_results_that_belong_to_another_user(shared):
    (shared / "outputs/run1").mkdir(parents=True)
    assert found(shared, "RD642") == []
    os.setresuid(65534, -1, -1)  # what access(2) asks about
    try:
        (problem,) = found(shared, "RD642")
        assert problem.cause == "outputs may not be written by this user (65534); it is 0's"
        os.chown(shared / "outputs", 65534, 65534)
        (problem,) = found(shared, "RD642")
        assert problem.cause == "outputs/run1 may not be written by this user (65534); it is 0's"
        os.chown(shared / "outputs/run1", 65534, 65534)
        assert found(shared, "RD642") == []
    finally:
        os.setresuid(0, -1, -1)


def test_paths_of_other_machines_and_what_only_looks_like_one(tmp_path):
    code = '"""/home/user0/doc is prose"""\nA = "/home/user0/data"\nB = "/home/user0/b"\nC = "/api/v1"\nD = "/tmp/x"\n'
    (problem,) = found(write(tmp_path, {"a.py": code, "tests/b.py": code, "configs/c.py": code}), "RD640")
    assert (problem.place, problem.severity) == ("a.py:2", Severity.OPTIONAL)
    assert problem.cause == "/home/user0 is not on this machine; 1 more lines name it"
