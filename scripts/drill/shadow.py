"""Copies of this environment that cost nothing: links to what is installed, and real files where a fault changes it.

    copy/env        a virtual environment whose site-packages holds links to the entries of this one's
    copy/project    RacDINO's sources with the compiled op: the doctor runs from there

Whatever a mend writes must land in the copy, so a fault that a mend answers first puts real files in the links' place.
"""

from __future__ import annotations

import shutil
import site
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.drill import tree

_PROJECT = ("racdino", "MultiScaleDeformableAttention", "environment", "setup.py", "pyproject.toml", "scripts")
SITE = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"


@contextmanager
def of_this_environment() -> Iterator[Path]:
    """A copy, deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="racdino-drill-") as folder:
        copy = Path(folder)
        _environment(copy / "env")
        (copy / "project").mkdir()
        for name in _PROJECT:
            source = tree.ROOT / name
            if source.is_dir():
                shutil.copytree(
                    source, copy / "project" / name, ignore=shutil.ignore_patterns("__pycache__", "racdion")
                )
            else:
                shutil.copy(source, copy / "project" / name)
        (copy / "project" / "README.md").touch()
        yield copy


def python(copy: Path) -> Path:
    """The copy's interpreter."""
    return copy / "env" / "bin" / "python"


def packages(copy: Path) -> Path:
    """The copy's site-packages."""
    return copy / "env" / SITE


def own(copy: Path, name: str) -> Path:
    """Make one folder of site-packages the copy's: its entries become links, and can be exchanged."""
    folder = packages(copy) / name
    source = folder.resolve()
    folder.unlink()
    folder.mkdir()
    for entry in source.iterdir():
        (folder / entry.name).symlink_to(entry)
    return folder


def remove(copy: Path, distribution: str) -> None:
    """Uninstall: the entries of site-packages that the distribution's RECORD names."""
    folder = _dist_info(copy, distribution)
    names = {line.split(",")[0].split("/")[0] for line in (folder / "RECORD").read_text(encoding="utf-8").splitlines()}
    for name in {*names, folder.name} - {"..", ""}:
        if (packages(copy) / name).is_symlink():
            (packages(copy) / name).unlink()


def add(copy: Path, distribution: str, version: str, module: str = "") -> None:
    """Install a stub: metadata of that version and, where a module is named, a package that knows its version only."""
    folder = packages(copy) / f"{distribution.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    (folder / "INSTALLER").write_text("pip\n")
    files = [f"{folder.name}/{name}" for name in ("METADATA", "INSTALLER", "RECORD")]
    if module:
        (packages(copy) / module).mkdir()
        (packages(copy) / module / "__init__.py").write_text(f"__version__ = {version!r}\n")
        files.append(f"{module}/__init__.py")
    (folder / "RECORD").write_text("".join(f"{name},,\n" for name in files))


def exchange(copy: Path, distribution: str, version: str, module: str = "") -> None:
    """Another version in the installed one's place."""
    remove(copy, distribution)
    add(copy, distribution, version, module)


def _environment(prefix: Path) -> None:
    source = Path(site.getsitepackages()[0])
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", prefix / "pyvenv.cfg")
    (prefix / SITE).mkdir(parents=True)
    for entry in source.iterdir():
        if entry.name != "__pycache__":
            (prefix / SITE / entry.name).symlink_to(entry)
    notes = Path(sys.prefix) / "racdino"
    if notes.is_dir():
        shutil.copytree(notes, prefix / "racdino")


def _dist_info(copy: Path, distribution: str) -> Path:
    stem = distribution.replace("-", "_").lower()
    return next(
        folder
        for folder in packages(copy).glob("*.dist-info")
        if folder.name.removesuffix(".dist-info").rpartition("-")[0].replace("-", "_").lower() == stem
    )
