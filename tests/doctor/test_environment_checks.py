"""Checks of the environment that no fault of the drill reaches: they need a GPU, another user, or another system."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import pytest

from racdino.doctor.check import CHECKS
from racdino.doctor.environment.loading import Loads, load_all
from racdino.doctor.environment.subject import Environment
from racdino.doctor.finding import Finding, Severity
from racdino.environment.cubins import Targets, installed_targets


def found(code: str, environment: Environment) -> list[Finding]:
    return [finding for finding in CHECKS[code].findings(environment) if finding.severity is not Severity.OK]


def installed(folder: Path, *names: str) -> Path:
    """A site-packages folder with these distributions, `name-version`."""
    for name in names:
        (folder / f"{name}.dist-info").mkdir(parents=True)
        (folder / f"{name}.dist-info" / "METADATA").touch()
    return folder


def of(*names: str, tmp_path: Path, **given: object) -> Environment:
    site = installed(tmp_path / "lib/python3.10/site-packages", *names)
    return Environment(prefix=tmp_path, path=[str(site)], variables={}, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("version", "is_wrong"), [((3, 7), True), ((3, 8), False), ((3, 10), False), ((3, 11), True), ((3, 12), True)]
)
def test_pythons_that_the_stack_has_files_for(monkeypatch, version, is_wrong):
    monkeypatch.setattr(sys, "version_info", (*version, 0))
    assert bool(found("RD101", Environment())) is is_wrong


@pytest.mark.parametrize(
    ("system", "machine", "libc", "words"),
    [
        ("Darwin", "arm64", ("", ""), "this is Darwin on arm64"),
        ("Linux", "aarch64", ("glibc", "2.36"), "this is Linux on aarch64"),
        ("Linux", "x86_64", ("", ""), "C library"),
        ("Linux", "x86_64", ("glibc", "2.12"), "older than 2.17"),
    ],
)
def test_systems_that_it_has_no_files_for(monkeypatch, system, machine, libc, words):
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("platform.libc_ver", lambda: libc)
    assert words in found("RD102", Environment())[0].cause


@pytest.mark.parametrize(("gcc", "wrong"), [("12", True), ("11", False)])
def test_a_compiler_that_nvcc_refuses(tmp_path, gcc, wrong):
    for name, said in {"nvcc": "release 11.8,", "g++": gcc}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{said}'\n")
        (tmp_path / name).chmod(0o755)
    environment = Environment(variables={"PATH": str(tmp_path), "CXX": str(tmp_path / "g++")}, variant="cu118")
    assert bool(found("RD104", environment)) is wrong
    assert not found("RD104", Environment(variables={"PATH": str(tmp_path)}, variant="cpu"))


def test_an_environment_of_the_users_own_is_held_to_the_stack_alone(tmp_path):
    names = ("torch-2.0.0+cu118", "torchvision-0.15.1+cu118", "mmcv_full-1.6.0", "mmdet-2.28.2", "mmdet3d-1.0.0rc6")
    others = ("numpy-1.23.5", "mmsegmentation-0.30.0", "spconv_cu118-2.3.6", "cumm_cu118-0.4.11", "tqdm-4.1.0")
    environment = of(*names, *others, tmp_path=tmp_path)
    assert environment.variant is None
    assert not found("RD301", environment)
    assert not found("RD302", environment)


def test_many_versions_off_the_lock_are_six_lines_and_their_names(tmp_path):
    names = [name for name in Environment(variant="cpu").pins if name not in {"numpy", "setuptools"}][:12]
    environment = of(*(f"{name.replace('-', '_')}-0.0.1" for name in names), tmp_path=tmp_path, variant="cpu")
    findings = found("RD302", environment)
    assert len(findings) == 7
    assert "more are off the lock" in findings[-1].cause


def test_the_users_own_site_packages_in_between(tmp_path):
    own = installed(tmp_path / "home/.local/lib/python3.10/site-packages", "numpy-1.26.0")
    environment = Environment(prefix=tmp_path / "env", path=[str(own)], variables={})
    assert "numpy 1.26.0 is taken from" in found("RD305", environment)[0].cause


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("ImportError: /x/_ext.so: undefined symbol: _ZN3c104impl", "compiled for another torch"),
        ("ImportError: libcudart.so.11.0: cannot open shared object file", "CUDA library libcudart.so.11.0"),
        ("ImportError: libc10.so: cannot open shared object file", "torch's own libraries"),
        ("ImportError: libGL.so.1: cannot open shared object file", "system library libGL.so.1"),
        ("ImportError: /lib/libstdc++.so.6: version `GLIBCXX_3.4.29' not found", "too old for it (GLIBCXX_3.4.29)"),
    ],
)
def test_what_the_loader_says_is_said_in_words(tmp_path, error, words):
    environment = of("torch-2.0.0", "mmcv_full-1.6.0", tmp_path=tmp_path)
    environment.loads = Loads(torch={"version": "2.0.0"}, errors={"mmcv._ext": error}, files={"mmcv._ext": ["x"]})
    assert words in found("RD404", environment)[0].cause


def test_attention_back_ends_of_another_torch(tmp_path):
    environment = of("torch-2.0.0", "xformers-0.0.19", "flash_attn-2.3.5", tmp_path=tmp_path)
    environment.loads = Loads(
        torch={"version": "2.0.0"}, errors={"xformers._C": "OSError: x", "flash_attn_2_cuda": "y"}
    )
    assert found("RD502", environment)
    assert found("RD503", environment)


def test_a_torch_that_crashes_is_a_finding(tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("import os; os.abort()\n")
    loads = load_all(sys.executable, {**os.environ, "PYTHONPATH": str(tmp_path)})
    environment = of("torch-2.0.0", tmp_path=tmp_path)
    environment.loads = loads
    assert "ended with status" in found("RD401", environment)[0].cause
    assert not found("RD402", environment)


def test_few_processes(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (64, 64))
    assert found("RD905", Environment(variables={}))


def test_a_container_with_little_memory(monkeypatch, tmp_path):
    (tmp_path / "memory.max").write_text(f"{1 << 30}\n")
    monkeypatch.setattr("racdino.doctor.environment.limits._CGROUP", (tmp_path / "memory.max",))
    assert "limited to 1024 MiB" in found("RD904", Environment(variables={}))[-1].cause


def test_a_user_without_a_name(monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    assert found("RD909", Environment(variables={}))
    assert not found("RD909", Environment(variables={"LOGNAME": "racdino"}))


@pytest.mark.parametrize("value", ["http://[::1", "http://proxy:port", "http://", "proxy.example:8080", "ftp://x:1"])
def test_proxies_that_are_no_addresses_are_findings_and_no_crash(value):
    assert found("RD951", Environment(variables={"https_proxy": value}))


@pytest.mark.parametrize("value", ["http://proxy:8080", "https://user:word@proxy", "socks5h://[::1]:1080"])
def test_proxies_that_are(value):
    assert not found("RD951", Environment(variables={"https_proxy": value}))


def test_a_proxys_password_is_not_printed():
    (finding,) = found("RD951", Environment(variables={"https_proxy": "user:secret@proxy:8080"}))
    assert "secret" not in finding.cause


@pytest.mark.parametrize(("value", "wrong"), [("²", True), ("0", True), ("", True), ("4,", True), ("1,1", False)])
def test_numbers_of_threads_as_openmp_reads_them(value, wrong):
    assert bool(found("RD908", Environment(variables={"OMP_NUM_THREADS": value}))) is wrong


@pytest.mark.parametrize(
    ("name", "content"), [("state.json", b"\xff\xfe"), ("image.json", b"[1]"), ("image.json", b"{")]
)
def test_damaged_notes_are_one_finding(tmp_path, name, content):
    (tmp_path / "racdino").mkdir()
    (tmp_path / "racdino" / name).write_bytes(content)
    environment = of("torch-2.0.0", tmp_path=tmp_path)
    assert environment.variant is None
    assert "cannot be read" in found("RD303", environment)[0].cause


def test_one_opencv_with_windows_is_wrong_only_where_it_cannot_load(monkeypatch, tmp_path):
    environment = of("opencv_python-4.8.1.78", tmp_path=tmp_path)
    monkeypatch.setattr("racdino.doctor.environment.shared_folders._loads", lambda library: True)
    assert not found("RD320", environment)
    monkeypatch.setattr("racdino.doctor.environment.shared_folders._loads", lambda library: False)
    assert "needs libGL.so.1" in found("RD320", environment)[0].cause
    installed(tmp_path / "lib/python3.10/site-packages", "opencv_python_headless-4.8.1.78")
    (finding,) = found("RD320", of(tmp_path=tmp_path))
    assert finding.cause == "opencv-python and opencv-python-headless are installed, and share the folder cv2/"


def test_what_was_right_on_python_3_8_is_not_wrong_there(monkeypatch, tmp_path):
    environment = of("torch-2.0.0", "numba-0.53.0", "networkx-2.2", tmp_path=tmp_path)
    assert found("RD317", environment)
    assert found("RD318", environment)
    monkeypatch.setattr(sys, "version_info", (3, 8, 18))
    assert not found("RD317", environment)
    assert not found("RD318", environment)


def test_what_only_some_uses_mind_is_an_error_in_racdinos_environment_alone(tmp_path):
    environment = of("torch-2.0.0", "pycocotools-2.0.6", tmp_path=tmp_path)
    assert [finding.severity for finding in found("RD322", environment)] == [Severity.OPTIONAL]
    environment = of(tmp_path=tmp_path, variant="cpu")
    assert [finding.severity for finding in found("RD322", environment)] == [Severity.ERROR]


def test_without_pip_nothing_is_promised_to_be_mended(tmp_path):
    environment = of("torch-2.0.0", "yapf-0.40.2", tmp_path=tmp_path)
    assert found("RD313", environment)[0].mend is None
    installed(tmp_path / "lib/python3.10/site-packages", "pip-26.3")
    assert found("RD313", of(tmp_path=tmp_path))[0].mend is not None


def test_a_torch_that_was_exchanged_is_said_once(tmp_path):
    environment = of("torch-2.1.0", "torchvision-0.15.1", "mmcv_full-1.6.0", tmp_path=tmp_path)
    errors = dict.fromkeys(("mmcv._ext", "torchvision._C"), "ImportError: x.so: undefined symbol: _ZN3c10")
    errors["racdino._C"] = "ImportError: racdino's compiled operator is stale (built for torch 2.0.0, this is 2.1.0)"
    environment.loads = Loads(torch={"version": "2.1.0"}, errors=errors, files={"mmcv._ext": ["x"]})
    assert [finding.cause for finding in found("RD302", environment)] == ["torch is 2.1.0, the lock has 2.0.0+cu118"]
    for code in ("RD402", "RD404", "RD406"):
        assert not found(code, environment)


def test_what_imports_print_is_not_taken_for_the_answer(tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("print('{\"torch\": 1}')\nraise ImportError('no')\n")
    loads = load_all(sys.executable, {**os.environ, "PYTHONPATH": str(tmp_path)})
    assert loads.errors == {"torch": "ImportError: no"}
    (tmp_path / "torch" / "__init__.py").write_text("import os; os._exit(0)\n")
    assert "without an answer" in load_all(sys.executable, {**os.environ, "PYTHONPATH": str(tmp_path)}).crash


def test_targets_are_read_from_what_is_installed(tmp_path):
    (tmp_path / "torch" / "lib").mkdir(parents=True)
    (tmp_path / "torch" / "lib" / "libtorch_cpu.so").write_bytes(b"no device code")
    assert installed_targets([tmp_path], package=tmp_path) == {"torch": Targets()}


def test_a_checkout_with_an_egg_info_in_pythonpath_hides_nothing(tmp_path):
    (tmp_path / "MultiScaleDeformableAttention.egg-info").mkdir()
    assert not found("RD107", Environment(variables={"PYTHONPATH": str(tmp_path)}, variant="cpu"))
