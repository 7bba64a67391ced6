"""The ledger: for each pin with a reason in pins.toml, a proof that the reason still holds.

A test that fails here says that a pin may be relaxed, or that its row gives a wrong reason.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from racdino.environment.locks import LOCKS, Pin, parse_lock
from scripts.locking.resolve import RegistryError, ResolutionError, resolve
from scripts.locking.table import Table

Fetch = Callable[..., Path]
Python = Callable[..., "subprocess.CompletedProcess[str]"]


def source_of(package: str) -> Path:
    """The folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{package} is not installed here: `make setup` installs it")
    return Path(next(iter(spec.submodule_search_locations)))


def uses(package: str, pattern: str) -> list[str]:
    """The files of an installed package in which ``pattern`` occurs."""
    found = re.compile(pattern)
    return [str(path) for path in source_of(package).rglob("*.py") if found.search(path.read_text(errors="replace"))]


@pytest.fixture
def refusal(uv: Path, table: Table) -> Callable[..., str]:
    """What the resolver says to the native set with some versions exchanged."""

    def resolve_with(**versions: str) -> str:
        native = table.sets["native"]
        pins = {**native.pins, **{name.replace("_", "-"): version for name, version in versions.items()}}
        constraints: dict[str, Pin] = parse_lock(LOCKS / "build.lock")
        try:
            resolve(uv, table, dataclasses.replace(native, pins=pins), constraints, LOCKS / "none.lock")
        except ResolutionError as error:
            return " ".join(str(error).split())
        except RegistryError as error:
            pytest.skip(f"no package registry answers: {str(error).splitlines()[-1]}")
        pytest.fail(f"the set accepts {versions}")

    return resolve_with


def lock_alone(uv: Path, folder: Path, requirement: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Resolve one requirement by itself for Python 3.10."""
    (folder / "in.txt").write_text(requirement + "\n")
    command = [uv, "pip", "compile", "in.txt", "--python", sys.executable, "--python-version", "3.10", *options]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if re.search("error sending request|dns error", answer.stderr):
        pytest.skip("no package registry answers")
    return answer


def test_every_reason_with_a_test_has_one_and_every_test_a_row():
    text = (LOCKS / "pins.toml").read_text(encoding="utf-8")
    named = set(re.findall(r'^test = "(\w+)"$', text, re.M))
    here = {name for name, value in globals().items() if name.startswith("test_") and inspect.isfunction(value)}
    assert named == here - {"test_every_reason_with_a_test_has_one_and_every_test_a_row"}


# ------------------------------------------------------------ read from what is installed and locked


def test_one_opencv_is_locked():
    for lock in ("cpu.lock", "cu118.lock"):
        assert [name for name in parse_lock(LOCKS / lock) if name.startswith("opencv")] == ["opencv-python-headless"]


def test_the_lyft_kit_does_not_import_its_linters():
    assert uses("lyft_dataset_sdk", r"lyft")
    assert not uses("lyft_dataset_sdk", r"^\s*(import|from) (black|flake8)")


def test_mmdet3d_imports_the_lyft_kit():
    assert uses("mmdet3d", r"(?m)^from lyft_dataset_sdk")


def test_xformers_0019_asks_for_torch_200():
    try:
        requires = importlib.metadata.requires("xformers") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("xformers is not installed here: `make setup` installs it")
    assert [line.replace(" ", "") for line in requires if line.startswith("torch")] in (
        ["torch==2.0.0"],
        ["torch(==2.0.0)"],
    )


STUBS = """
import sys, types
for name, version in {{"mmcv": {mmcv!r}, "mmdet": "2.28.2", "mmseg": "0.30.0"}}.items():
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__version__ = version
import mmdet3d
"""


def test_mmdet3d_refuses_mmcv_172(python: Python):
    source_of("mmdet3d")
    assert python(STUBS.format(mmcv="1.6.0")).returncode == 0
    assert "MMCV==1.7.2 is used but incompatible" in python(STUBS.format(mmcv="1.7.2")).stderr


# ------------------------------------------------------------ refused by the resolver


@pytest.mark.slow
def test_xformers_0022_is_refused(refusal: Callable[..., str]):
    assert "xformers==0.0.22 depends on torch==2.0.1" in refusal(xformers="0.0.22")


@pytest.mark.slow
def test_torchvision_0150_is_refused(refusal: Callable[..., str]):
    assert re.search(r"torchvision==0\.15\.0 depends on torch==2\.0\.0\+cu117", refusal(torchvision="0.15.0"))


@pytest.mark.slow
def test_spconv_accepts_this_cumm_and_not_the_next(refusal: Callable[..., str]):
    assert "2.3.6 depends on cumm-cu118>=0.4.5,<0.5.0" in refusal(cumm_cu118="0.5.3")


@pytest.mark.slow
def test_nuscenes_devkit_refuses_newer_matplotlib_and_shapely(refusal: Callable[..., str]):
    assert "1.1.11 depends on matplotlib<3.6.0" in refusal(matplotlib="3.6.3")
    assert "1.1.11 depends on shapely<2.0.0" in refusal(shapely="2.0.4")


@pytest.mark.slow
def test_nuscenes_devkit_1110_drags_in_jupyter(uv: Path, tmp_path: Path):
    assert "\njupyter==" in lock_alone(uv, tmp_path, "nuscenes-devkit==1.1.10").stdout


@pytest.mark.slow
def test_numba_053_has_no_file_for_python_310(uv: Path, tmp_path: Path):
    assert has_no_wheel(lock_alone(uv, tmp_path, "numba==0.53.0", "--only-binary", ":all:"))


@pytest.mark.slow
def test_pycocotools_206_has_no_wheel(uv: Path, tmp_path: Path):
    platform = ("--python-platform", "x86_64-manylinux2014")
    assert has_no_wheel(lock_alone(uv, tmp_path, "pycocotools==2.0.6", "--only-binary", ":all:", *platform))


@pytest.mark.slow
def test_flash_attn_has_no_wheel_in_the_registry(uv: Path, tmp_path: Path):
    assert has_no_wheel(lock_alone(uv, tmp_path, "flash-attn==2.3.5", "--only-binary", ":all:"))


def has_no_wheel(answer: subprocess.CompletedProcess[str]) -> bool:
    return answer.returncode != 0 and "no usable wheels" in " ".join(answer.stderr.split())


# ------------------------------------------------------------ run with the other version


@pytest.mark.slow
@pytest.mark.parametrize(("package", "module"), [("mmdet==3.0.0", "mmdet"), ("mmsegmentation==1.0.0", "mmseg")])
def test_the_next_mmdet_and_mmseg_refuse_mmcv_1(fetch: Fetch, package: str, module: str):
    text = (fetch(package) / module / "__init__.py").read_text()
    assert re.search(r"(?i)mmcv_min(imum_version)? = '2\.0\.0rc", text)


@pytest.mark.slow
def test_yapf_0402_breaks_mmcvs_config(fetch: Fetch, python: Python):
    source_of("mmcv")
    code = "from mmcv import Config; print(Config(dict(answer=42)).pretty_text)"
    assert "answer = 42" in python(code).stdout
    answer = python(code, above=fetch("yapf==0.40.2"))
    assert "got an unexpected keyword argument 'verify'" in answer.stderr


@pytest.mark.slow
def test_numpy_124_lacks_the_aliases_that_mmdet3d_uses(fetch: Fetch, python: Python):
    assert len(uses("mmdet3d", r"\bnp\.(int|bool|float|long)\b(?!_)")) >= 5
    code = "import numpy as np; np.int, np.bool, np.float"
    assert python(code).returncode == 0
    assert "has no attribute 'int'" in python(code, above=fetch("numpy==1.24.4")).stderr


@pytest.mark.slow
def test_setuptools_70_breaks_torchs_extension_builder(fetch: Fetch, python: Python):
    code = "import torch.utils.cpp_extension"
    assert python(code).returncode == 0
    assert (
        "cannot import name 'packaging' from 'pkg_resources'" in python(code, above=fetch("setuptools==70.0.0")).stderr
    )


@pytest.mark.slow
def test_wheel_046_needs_packaging(fetch: Fetch, tmp_path: Path):
    (tmp_path / "setup.py").write_text("import setuptools; setuptools.setup(name='nothing', version='1')")

    def build(folder: Path) -> str:
        code = f"import sys; sys.path.insert(0, {str(folder)!r}); sys.argv = ['setup.py', 'bdist_wheel']; import setup"
        isolated = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"]
        return subprocess.run(isolated, cwd=tmp_path, capture_output=True, text=True, check=False).stderr

    assert "No module named 'packaging'" in build(fetch("setuptools==69.5.1", "wheel==0.46.3"))
    assert "No module named 'packaging'" not in build(fetch("setuptools==69.5.1", "wheel==0.43.0"))


@pytest.mark.slow
def test_networkx_22_does_not_import(fetch: Fetch, python: Python):
    answer = python("import networkx", above=fetch("networkx==2.2", options=()))
    assert "cannot import name 'Mapping' from 'collections'" in answer.stderr


@pytest.mark.slow
def test_pillow_10_lacks_the_old_constants(fetch: Fetch, python: Python):
    code = "from PIL import Image; Image.ANTIALIAS, Image.LINEAR"
    assert python(code).returncode == 0
    assert "has no attribute 'ANTIALIAS'" in python(code, above=fetch("pillow==10.4.0")).stderr


OLD_PROTOC = """
from google.protobuf import descriptor
descriptor.EnumValueDescriptor(
    name="A", index=0, number=0, serialized_options=None, type=None, create_key=descriptor._internal_create_key)
"""


@pytest.mark.slow
def test_protobuf_4_refuses_descriptors_made_by_hand(fetch: Fetch, python: Python, tmp_path: Path):
    generated = tmp_path / "old_pb2.py"  # the name by which protobuf knows generated code
    generated.write_text(OLD_PROTOC)
    code = f"import sys; sys.path.insert(1, {str(tmp_path)!r}); import old_pb2"
    for version, accepted in (("3.20.3", True), ("4.25.3", False)):
        answer = python(code, above=fetch(f"protobuf=={version}"))
        assert (answer.returncode == 0) is accepted, answer.stderr
        assert accepted or "Descriptors cannot be created directly" in answer.stderr


@pytest.mark.slow
def test_shapely_2_does_not_iterate_multipolygons(fetch: Fetch, python: Python):
    code = "from shapely.geometry import MultiPolygon, box; list(MultiPolygon([box(0, 0, 1, 1)]))"
    assert python(code).returncode == 0
    assert "'MultiPolygon' object is not iterable" in python(code, above=fetch("shapely==2.0.4")).stderr


@pytest.mark.slow
def test_the_two_opencvs_own_the_same_files(fetch: Fetch):
    folder = fetch("opencv-python==4.8.1.78")
    other = {path.relative_to(folder).as_posix() for path in (folder / "cv2").rglob("*.py")}
    ours = {str(path) for path in importlib.metadata.files("opencv-python-headless") or ()}
    assert other
    assert other <= ours


@pytest.mark.slow
def test_pyturbojpeg_2_asks_for_libjpeg_turbo_3(fetch: Fetch):
    def asks(version: str) -> bool:
        return "tj3Init" in (fetch(f"pyturbojpeg=={version}") / "turbojpeg.py").read_text()

    assert asks("2.0.0")
    assert not asks("1.7.3")
