"""The GPU targets read from a shared object are those its compiler put there."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from racdino.environment import cubins
from racdino.environment.cubins import CubinError, Targets
from racdino.environment.locks import LOCKS, read_header

SITE_PACKAGES = Path(cubins.__file__).parents[2] / ".venv/lib/python3.10/site-packages"
PTX, CUBIN, RELOCATABLE = 1, 2, 16


def container(*entries: tuple[int, int], payload: int = 56) -> bytes:
    """A fat binary as nvcc lays one out: each entry is (kind, arch), with `payload` bytes that look like anything."""
    body = b""
    for kind, arch in entries:
        noise = (b"\x50\xed\x55\xba" * payload)[:payload]  # the container's own magic, where only code should be
        body += struct.pack("<HHIQIIHHI", kind, 0x101, 64, payload, payload, 0, 0, 8, arch) + bytes(32) + noise
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def elf(sections: Sequence[tuple[str, bytes]]) -> bytes:
    """A 64-bit ELF file of sections alone: header, contents, names, section headers."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name, _ in sections) + b".shstrtab\0"
    contents, headers, offset = b"", [bytes(64)], 64
    for name, content in [*sections, (".shstrtab", names)]:
        at = names.index(b"\0" + name.encode() + b"\0") + 1
        headers.append(struct.pack("<IIQQQQIIQQ", at, 1, 0, 0, offset, len(content), 0, 0, 8, 0))
        contents += content
        offset += len(content)
    start = struct.pack(
        "<4sBBB9xHHIQQQIHHHHHH",
        b"\x7fELF",
        2,
        1,
        1,
        3,
        62,
        1,
        0,
        0,
        offset,
        0,
        64,
        0,
        0,
        64,
        len(headers),
        len(headers) - 1,
    )
    return start + contents + b"".join(headers)


@pytest.fixture
def library(tmp_path):
    def write(*sections: tuple[str, bytes], name: str = "lib.so") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(elf(sections))
        return path

    return write


def test_every_container_of_both_sections_is_read(library):
    first = container((CUBIN, 90), (PTX, 90), (CUBIN, 70)) + bytes(24) + container((CUBIN, 120), payload=8)
    path = library((".text", b"\x90" * 40), (".nv_fatbin", first), ("__nv_relfatbin", container((CUBIN, 86))))
    assert cubins.targets(path) == Targets(("7.0", "8.6", "9.0", "12.0"), ("9.0",))
    assert str(cubins.targets(path)) == "7.0 8.6 9.0+PTX 12.0"


def test_other_kinds_of_entries_and_the_bytes_of_other_sections_do_not_count(library):
    path = library((".rodata", container((CUBIN, 80))), (".nv_fatbin", container((RELOCATABLE, 75), (PTX, 52))))
    assert cubins.targets(path) == Targets((), ("5.2",))
    assert str(cubins.targets(path)) == "5.2(PTX)"


@pytest.mark.parametrize(
    "content", [b"", b"GROUP ( libx.so.1 )" * 9, elf([(".text", bytes(8))])], ids=["empty", "script", "host"]
)
def test_a_file_without_device_code_has_no_targets(tmp_path, content):
    (tmp_path / "lib.so").write_bytes(content)
    assert cubins.targets(tmp_path / "lib.so") == Targets()
    assert str(Targets()) == "none"


def test_damaged_device_code_is_one_sentence_that_names_the_file(library, tmp_path):
    whole = container((CUBIN, 80))
    path = library((".nv_fatbin", whole[:-8]))
    with pytest.raises(CubinError, match=rf"^{path}: a container of device code is longer than its section\.$"):
        cubins.targets(path)
    path.write_bytes(elf([(".nv_fatbin", whole)])[:-80])
    with pytest.raises(CubinError, match=rf"^{path} is damaged"):
        cubins.targets(path)
    path = library((".nv_fatbin", struct.pack("<IHHQ", 0xBA55ED50, 1, 16, 64) + bytes(64)))
    with pytest.raises(CubinError, match="no valid header"):
        cubins.targets(path)


@pytest.mark.parametrize(
    ("capability", "cubin", "ptx", "runs"),
    [
        ((9, 0), "9.0", "", True),
        ((8, 9), "8.6", "", True),  # Ada runs Ampere's
        ((8, 0), "8.6", "", False),  # and Ampere's first chip does not run its second's
        ((9, 0), "8.6", "", False),
        ((12, 0), "9.0", "9.0", True),
        ((12, 0), "9.0", "", False),
        ((8, 6), "", "9.0", False),
        ((10, 0), "9.0", "12.0", False),
    ],
)
def test_a_gpu_runs_code_of_its_major_version_and_older_ptx(capability, cubin, ptx, runs):
    assert Targets(tuple(cubin.split()), tuple(ptx.split())).accepts(capability) is runs


def test_a_scan_lists_what_lies_below_and_the_operator_of_an_editable_installation(library, tmp_path):
    code = (".nv_fatbin", container((CUBIN, 80)))
    library(code, name="venv/lib/mmcv/_ext.cpython-310.so")
    library(code, name="venv/lib/libx.so.1.2")
    (tmp_path / "venv/lib/libx.so").symlink_to("libx.so.1.2")
    library((".text", b""), name="venv/lib/host.so")
    library(code, name="project/racdino/_C.cpython-310.so")
    listed = cubins.scan(tmp_path / "venv", tmp_path / "project/racdino")
    assert list(listed) == ["lib/libx.so.1.2", "lib/mmcv/_ext.cpython-310.so", "racdino/_C.cpython-310.so"]
    assert list(cubins.by_library(listed)) == ["racdino._C", "mmcv-full"]


def test_what_is_written_is_read_again_and_damage_is_said(library, tmp_path):
    library((".nv_fatbin", container((CUBIN, 80), (PTX, 80))), name="lib/site-packages/torch/lib/libtorch_cuda.so")
    assert cubins.read(tmp_path) is None
    written = cubins.write(tmp_path)
    assert json.loads(written.read_text())["lib/site-packages/torch/lib/libtorch_cuda.so"] == {
        "cubins": ["8.0"],
        "ptx": ["8.0"],
    }
    assert cubins.by_library(cubins.read(tmp_path) or {})["torch"] == Targets(("8.0",), ("8.0",))
    written.write_text('{"lib/x.so": []}')
    with pytest.raises(CubinError, match="is damaged"):
        cubins.read(tmp_path)


def test_a_promise_is_kept_or_the_gap_is_named():
    promised = read_header(LOCKS / "build.lock")["arch-list"].split()
    all_of_it = Targets(("7.0", "7.5", "8.0", "8.6", "8.9", "9.0"), ("9.0",))
    listed = {"racdino/_C.x.so": all_of_it, "lib/site-packages/mmcv/_ext.x.so": all_of_it}
    assert cubins.lacking(listed, promised) == {}
    listed["racdino/_C.x.so"] = Targets(("7.0", "7.5", "8.0", "8.6", "9.0"))
    assert cubins.lacking(listed, promised) == {"racdino._C": ("8.9", "9.0+PTX")}
    del listed["lib/site-packages/mmcv/_ext.x.so"]
    assert cubins.lacking(listed, ["8.0"]) == {"mmcv-full": ("8.0",)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "torch/lib/libtorch_cuda_linalg.so",
            "3.7 5.0 6.0 7.0 8.0 8.6",
        ),  # of the registry's torch, built with CUDA 11.7
        ("spconv/core_cc.cpython-310-x86_64-linux-gnu.so", "5.0 5.2+PTX 6.0 6.1 7.0 7.5 8.0 8.6 8.9 9.0+PTX"),
        ("xformers/_C.so", "5.0+PTX 6.0 6.1 7.0 7.5 8.0 8.6"),
        ("xformers/_C_flashattention.so", "7.5 8.0 8.6"),
    ],
)
def test_the_packages_of_the_cpu_lock_have_the_targets_that_another_parser_found_in_them(name, expected):
    path = SITE_PACKAGES / name
    if not path.is_file() or "+cu118" in "".join(p.name for p in SITE_PACKAGES.glob("torch-2*.dist-info")):
        pytest.skip(f"{path} is not here, or is the cu118 variant's")
    assert str(cubins.targets(path)) == expected


def cuobjdump() -> str:
    places = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/cuda/bin"])
    tool = os.environ.get("CUOBJDUMP") or shutil.which("cuobjdump", path=places)
    if tool is None:
        pytest.skip("cuobjdump is neither in PATH nor named by $CUOBJDUMP")
    return tool


def listed_by_cuobjdump(path: Path) -> Targets:
    done = subprocess.run([cuobjdump(), "-lelf", "-lptx", path], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this cuobjdump cannot read {path.name}: {done.stderr.strip()}")
    found = {(kind, int(arch)) for arch, kind in re.findall(r"\.sm_(\d+)a?\.(cubin|ptx)", done.stdout)}
    names = {kind: tuple(f"{a // 10}.{a % 10}" for k, a in sorted(found) if k == kind) for kind in ("cubin", "ptx")}
    return Targets(names["cubin"], names["ptx"])


@pytest.mark.parametrize("name", ["xformers/_C_flashattention.so", "torch/lib/libtorch_cuda_linalg.so"])
def test_cuobjdump_finds_the_same_in_a_package(name):
    if not (SITE_PACKAGES / name).is_file():
        pytest.skip(f"{SITE_PACKAGES / name} is not here")
    assert cubins.targets(SITE_PACKAGES / name) == listed_by_cuobjdump(SITE_PACKAGES / name)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> tuple[Path, Targets]:
    """A library that the machine's nvcc just made, for its newest target and its oldest, with PTX."""
    nvcc = shutil.which("nvcc", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/cuda/bin"]))
    if nvcc is None:
        pytest.skip("there is no nvcc to compile with")
    folder = tmp_path_factory.mktemp("nvcc")
    (folder / "k.cu").write_text("__global__ void k(float* a) { a[0] = 1; }\nvoid run(float* a) { k<<<1, 1>>>(a); }\n")
    known = subprocess.run([nvcc, "--list-gpu-code"], capture_output=True, text=True, check=True).stdout
    archs = sorted(int(number) for number in re.findall(r"^sm_(\d+)$", known, re.M))
    few = (archs[0], 90, archs[-1])
    flags = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in few]
    flags.append("-gencode=arch=compute_90,code=compute_90")
    command = [nvcc, "-shared", "-Xcompiler", "-fPIC", *flags, folder / "k.cu", "-o", folder / "k.so"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nvcc cannot compile here: {done.stderr.strip()}")
    return folder / "k.so", Targets(tuple(f"{arch // 10}.{arch % 10}" for arch in sorted(set(few))), ("9.0",))


def test_what_nvcc_was_told_is_what_is_found(compiled):
    path, expected = compiled
    assert cubins.targets(path) == expected


def test_cuobjdump_finds_the_same_in_what_nvcc_compiled(compiled):
    assert cubins.targets(compiled[0]) == listed_by_cuobjdump(compiled[0])


def test_the_module_writes_the_list_of_an_environment(library, tmp_path, capsys):
    library((".nv_fatbin", container((CUBIN, 80))), name="lib/mmcv/_ext.x.so")
    assert cubins.main([str(tmp_path), str(tmp_path / "list.json")]) == 0
    assert json.loads((tmp_path / "list.json").read_text()) == {"lib/mmcv/_ext.x.so": {"cubins": ["8.0"], "ptx": []}}
    assert "mmcv-full       8.0" in capsys.readouterr().out
