"""What a machine lacks is one sentence with the ways on, before anything is written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from collections import namedtuple
from pathlib import Path

import pytest

from scripts.setup import machine
from scripts.setup.errors import SetupError, explain

ROOT = Path(__file__).resolve().parents[2]
Usage = namedtuple("Usage", "total used free")


def program(folder: Path, name: str, prints: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho '{prints}'\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a shell and nothing else: the folder that is its PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "uname", "sed", "cut", "dirname", "mkdir", "mktemp", "rm", "readlink"):
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(folder))
    for name in ("CC", "CXX", "CUDA_HOME", "CUDA_PATH", "RACDINO_UV", "VARIANT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(machine, "_CUDA_FOLDERS", ())
    return folder


def refusal(*arguments: object, of=machine.find_compilers) -> str:
    with pytest.raises(SetupError) as error:
        of(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_variant_is_what_the_user_says_then_what_is_installed_then_what_the_machine_has(bare: Path, tmp_path: Path):
    assert machine.choose_variant("cpu", "cu118") == "cpu"
    assert machine.choose_variant(None, "cu118") == "cu118"
    assert not machine.has_nvidia_gpu(tmp_path / "no driver")
    program(bare, "nvidia-smi", "GPU 0: NVIDIA H200 (UUID: GPU-0)")
    assert machine.has_nvidia_gpu(tmp_path / "no driver")
    assert machine.choose_variant(None, None) == "cu118"


def test_a_variant_that_does_not_exist():
    assert refusal("gpu", None, of=machine.choose_variant) == (
        "VARIANT=gpu does not exist: use VARIANT=cpu or VARIANT=cu118."
    )


def test_no_compiler(bare: Path):
    sentence = refusal("cpu", "11.8.89", 11)
    assert sentence.startswith("there is no C++ compiler")
    for way in ("apt install g++", "dnf install gcc-c++", "conda install"):
        assert way in sentence


def test_a_compiler_variable_that_points_nowhere(bare: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXX", "g++-99")
    assert "CXX=g++-99 does not exist" in refusal("cpu", "11.8.89", 11)


def test_a_gpu_without_nvcc_names_the_image_the_toolkit_and_the_cpu_variant(bare: Path):
    for name in ("cc", "c++"):
        program(bare, name, "c++ (Debian 11.3.0-12) 11.3.0")
    program(bare, "nvcc", "Cuda compilation tools, release 13.0, V13.0.88")  # another nvcc does not count
    sentence = refusal("cu118", "11.8.89", 11)
    for way in ("nvcc 11.8", "the image", "nvidia-cuda-toolkit", "cuda-toolkit-11-8", "conda install", "VARIANT=cpu"):
        assert way in sentence


def test_nvcc_118_with_a_gcc_that_it_takes(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("cc", "c++"):
        program(bare, name, "c++ (Debian 11.3.0-12) 11.3.0")
    program(tmp_path / "cuda", "unused", "")
    program(tmp_path / "cuda" / "bin", "nvcc", "Cuda compilation tools, release 11.8, V11.8.89")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    compilers = machine.find_compilers("cu118", "11.8.89", 11)
    assert (compilers.cuda_home, compilers.cxx) == (str(tmp_path / "cuda"), "c++")


def test_nvcc_118_beside_a_gcc_that_is_too_new(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("cc", "c++"):
        program(bare, name, "c++ (Debian 12.2.0-14) 12.2.0")
    program(tmp_path / "cuda", "unused", "")
    program(tmp_path / "cuda" / "bin", "nvcc", "Cuda compilation tools, release 11.8, V11.8.89")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    assert "takes gcc up to 11 and this is gcc 12: apt install g++-11" in refusal("cu118", "11.8.89", 11)
    for name in ("gcc-11", "g++-11"):
        program(bare, name, "g++-11 (Debian 11.3.0-12) 11.3.0")
    assert machine.find_compilers("cu118", "11.8.89", 11).cxx == "g++-11"


def test_missing_headers(tmp_path: Path):
    sentence = refusal(str(tmp_path), of=machine.require_headers)
    for way in ("apt install python3.10-dev", "dnf install python3.10-devel", "uv python install 3.10"):
        assert way in sentence


def test_room_is_added_up_per_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 10 << 30))
    machine.require_space({tmp_path: 6.0, tmp_path / "not yet" / "there": 3.0})
    sentence = refusal({tmp_path: 6.0, tmp_path / "not yet" / "there": 7.0}, of=machine.require_space)
    assert sentence.startswith("13 GiB are needed on the disk of")
    assert "10.0 are free" in sentence


@pytest.mark.parametrize(
    ("printed", "way"),
    [
        ("error: Failed to fetch: `x`\n  cause: dns error", "HTTPS_PROXY"),
        ("invalid peer certificate: UnknownIssuer", "SSL_CERT_FILE"),
        ("error: Failed to copy file: No space left on device (os error 28)", "free some space"),
        ("error: Hash mismatch for `six==1.16.0`", "not the one in the lock"),
        ("x.h:1:10: fatal error: Python.h: No such file or directory", "python3.10-dev"),
        ("c++: fatal error: Killed signal terminated program cc1plus", "MAX_JOBS=1"),
    ],
)
def test_what_a_tool_printed_becomes_a_sentence_with_a_way_on(printed: str, way: str):
    sentence = explain(f"before\n{printed}\nafter")
    assert sentence is not None
    assert way in sentence
    assert "`" in sentence or "run" in sentence


def test_an_unknown_failure_is_not_explained_away():
    assert explain("error: something else") is None


def checkout(folder: Path) -> Path:
    """As much of the checkout as runs before anything is installed."""
    for name in ("scripts", "environment", "racdino/environment"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "racdino" / "__init__.py", folder / "racdino")
    return folder


def bootstrap(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "HOME": str(folder), **variables}
    script = folder / "scripts" / "bootstrap.sh"
    return subprocess.run([script], cwd="/", env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_bootstrap_without_uv_and_without_python(bare: Path, tmp_path: Path):
    answer = bootstrap(checkout(tmp_path / "checkout"))
    assert answer.returncode == 1
    assert re.fullmatch(r"setup: no uv [\d.]+ on PATH, no Python 3 .*, and neither curl nor wget .*\n", answer.stderr)


def serve(bare: Path, archive: Path) -> None:
    """A curl that downloads ``archive`` whatever it is asked for, and what unpacking and checking it needs."""
    for name in ("tar", "gzip", "sha256sum", "mv", "cp", "cat"):
        found = shutil.which(name, path=os.defpath)
        assert found
        (bare / name).symlink_to(found)
    (bare / "curl").write_text(
        f'#!/bin/sh\nfor last; do [ "$before" = --output ] && to=$last; before=$last; done\ncp {archive} "$to"\n'
    )
    (bare / "curl").chmod(0o755)


def archive_of(uv: Path, folder: Path) -> Path:
    archive = folder / "uv.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(uv, "uv-x86_64-unknown-linux-gnu/uv")
    return archive


def test_bootstrap_without_python_takes_the_release_of_uv(uv: Path, bare: Path, tmp_path: Path):
    serve(bare, archive_of(uv, tmp_path))
    folder = checkout(tmp_path / "checkout")
    answer = bootstrap(folder, PYENV_ROOT=str(tmp_path), UV_OFFLINE="1")  # it stops at the missing Python 3.10
    assert answer.returncode == 1
    assert "downloading, verified by environment/bootstrap.lock" in answer.stdout
    assert "there is no Python 3.10 with headers here" in answer.stderr
    (installed,) = (folder / "cache" / "racdino" / "uv").glob("*/bin/uv")
    assert installed.read_bytes() == uv.read_bytes()


def test_bootstrap_refuses_another_program_in_the_release(bare: Path, tmp_path: Path):
    (tmp_path / "fake").write_text("#!/bin/sh\necho uv 0.13.9\n")
    serve(bare, archive_of(tmp_path / "fake", tmp_path))
    folder = checkout(tmp_path / "checkout")
    answer = bootstrap(folder)
    assert answer.returncode == 1
    assert re.fullmatch(r"setup: the uv in https://\S+ does not have the sha256 in .* was deleted: .*\n", answer.stderr)
    assert not list((folder / "cache" / "racdino" / "uv").iterdir())


def test_bootstrap_refuses_a_variant_in_one_sentence_and_writes_nothing(uv: Path, tmp_path: Path):
    folder = checkout(tmp_path / "checkout")
    answer = bootstrap(folder, VARIANT="cu121", RACDINO_UV=str(uv), HOME=os.environ["HOME"])
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr == "setup: VARIANT=cu121 does not exist: use VARIANT=cpu or VARIANT=cu118.\n"
    assert not list(folder.glob(".venv*"))


def test_bootstrap_leaves_an_environment_that_is_not_ours_alone(uv: Path, tmp_path: Path):
    folder = checkout(tmp_path / "checkout")
    (folder / ".venv").mkdir()
    (folder / ".venv" / "pyvenv.cfg").write_text("home = /usr/bin\n")
    answer = bootstrap(folder, VARIANT="cpu", RACDINO_UV=str(uv), HOME=os.environ["HOME"])
    assert answer.returncode == 1
    assert answer.stderr.startswith("setup: .venv was not made by `make setup`: move it away")
    assert (folder / ".venv" / "pyvenv.cfg").read_text() == "home = /usr/bin\n"
