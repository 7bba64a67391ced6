"""A checkout in miniature, and tools that act as uv, pip and the compiler do, for the tests of setup."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from racdino.environment import extension_cache
from scripts.setup.build import Builder
from scripts.setup.machine import Compilers
from scripts.setup.plan import Plan

SITE = "lib/python3.10/site-packages"
SDIST = "mmcv-full-1.6.0.tar.gz"


def install(prefix: Path, name: str, version: str, files: Mapping[str, str]) -> None:
    """What an installer leaves: the files, and a RECORD with their hashes."""
    site = prefix / SITE
    info = f"{name}-{version}.dist-info"
    rows = []
    for path, text in {**files, f"{info}/METADATA": f"Name: {name}\n"}.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)
        sha256 = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={sha256},{len(text)}")
    (site / info / "RECORD").write_text("\n".join([*rows, f"{info}/RECORD,,"]) + "\n")


def sdist() -> bytes:
    """The source archive of the one package that is compiled."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("mmcv-full-1.6.0/setup.py")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"\n"))
    return buffer.getvalue()


def make_checkout(folder: Path) -> Path:
    """Locks with torch, mmcv-full and a tool; our package with one C++ file."""
    locks = {
        "build.lock": {"setuptools": ("69.5.1", "a" * 64)},
        "cpu.lock": {"torch": ("2.0.0", "b" * 64), "mmcv-full": ("1.6.0", hashlib.sha256(sdist()).hexdigest())},
        "dev.lock": {"ruff": ("0.1", "c" * 64)},
    }
    (folder / "environment").mkdir(parents=True)
    for lock, pins in locks.items():
        lines = [f"{name}=={version} --hash=sha256:{value}\n" for name, (version, value) in pins.items()]
        (folder / "environment" / lock).write_text("# nvcc: 11.8.89\n" + "".join(lines))
    (folder / "racdino" / "csrc").mkdir(parents=True)
    (folder / "racdino" / "csrc" / "op.cpp").write_text("int op;\n")
    for name in ("pyproject.toml", "setup.py", "racdino/__init__.py"):
        (folder / name).write_text("")
    return folder


class Killed(BaseException):
    """Stands for the moment at which the process ceases to be."""


@dataclass
class FakeTools:
    """Does what each command would leave on disk; is killed half-way through command number ``die_at``."""

    plan: Plan
    die_at: int = -1
    labels: list[str] = field(default_factory=list)
    keep_open: tuple[int, ...] = ()
    variables: Mapping[str, str] = field(default_factory=lambda: {"MAX_JOBS": "2"})
    uv: Path = Path("uv")

    def run(self, command: Sequence[str | Path], label: str, expected: float, extra: object = None) -> None:
        dying = len(self.labels) == self.die_at
        self.labels.append(label)
        words = [str(word) for word in command]
        if words[1] == "venv":
            self._venv(Path(words[-1]), dying)
        elif words[2:4] == ["pip", "download"]:
            target = Path(words[words.index("-d") + 1])
            target.mkdir()
            (target / SDIST).write_bytes(sdist()[: 5 if dying else None])
        elif words[2:4] == ["pip", "wheel"]:
            self._compile(Path(words[-1]), Path(words[words.index("-w") + 1]), dying)
        elif "build_ext" in words:
            self._extension(dying)
        else:
            raise AssertionError(words)
        if dying:
            raise Killed

    def uv_pip(self, verb: str, python: Path, arguments: object, label: str, *_: object) -> None:
        dying = len(self.labels) == self.die_at
        self.labels.append(label)
        prefix = python.parents[1]
        if "racdino" in label:
            self._extension(dying)
            packages = {"racdino": "0.1"}
        elif verb == "sync":
            packages = {"setuptools": "69.5.1", "torch": "2.0.0", "ruff": "0.1"}
        else:
            packages = {"setuptools": "69.5.1"} if "Build tools" in label else {"mmcv_full": "1.6.0"}
        for name, version in packages.items():
            install(prefix, name, version, {f"{name}/__init__.py": f"name = {name!r}\n"})
            if dying:  # metadata first, contents cut short: the order that fools an installer
                (prefix / SITE / name / "__init__.py").write_text("na")
                raise Killed

    def _venv(self, prefix: Path, dying: bool) -> None:
        (prefix / "bin").mkdir(parents=True)
        if not dying:
            (prefix / "bin" / "python").symlink_to(os.path.realpath("/bin/sh"))
            (prefix / "pyvenv.cfg").write_text("relocatable = true\n")

    def _extension(self, dying: bool) -> None:
        library = self.plan.extension_file()
        library.write_text("e" if dying else "elf")
        if not dying:
            extension_cache.store("key", {}, library)
            extension_cache.fetch("key", library)

    def _compile(self, source: Path, output: Path, dying: bool) -> None:
        objects = source / "build" / "temp.linux"
        objects.mkdir(parents=True, exist_ok=True)
        (objects / "one.o").write_text("object")
        (source / "build" / "lib.linux").mkdir(exist_ok=False)  # setup must have removed what was being linked
        if dying:
            return
        output.mkdir()
        with zipfile.ZipFile(output / "mmcv_full-1.6.0-cp310-cp310-linux_x86_64.whl", "w") as wheel:
            wheel.writestr("mmcv/__init__.py", "")


def make_builder(root: Path, cache: Path, die_at: int = -1) -> tuple[Builder, FakeTools]:
    plan = Plan(root, "cpu", False)
    tools = FakeTools(plan, die_at)
    return Builder(plan, tools, Compilers("cc", "c++", "c++ 12"), cache), tools  # type: ignore[arg-type]
