"""The base image: the pinned one where a registry answers, else the same Debian, bootstrapped here from apt.lock."""

from __future__ import annotations

import calendar
import hashlib
import inspect
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from racdino.environment.apt import parse_apt_lock
from racdino.environment.locks import read_header
from scripts.image.engine import Engine
from scripts.image.errors import ImageError
from scripts.uv import cache_root

ROOT = Path(__file__).resolve().parents[2]
_MERGED_USR = Path("/usr/share/mmdebstrap/hooks/merged-usr")
_SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
_PATIENCE = 120  # seconds for a registry to answer


@dataclass(frozen=True)
class Base:
    """A base image: its name for the engine, and whether it was pulled or bootstrapped."""

    name: str
    origin: str


def ensure_base(engine: Engine, pinned: str) -> Base:
    """The pinned base, or one made here. Says which of the two. $BASE names another, of a mirror, say.

    Raises:
        ImageError: no registry answers and the base cannot be bootstrapped either, or there is no $BASE.
    """
    if given := os.environ.get("BASE"):
        if not (engine.has_image(given) or _pull(engine, given)):
            raise ImageError(
                f"BASE={given} is neither here nor can it be pulled: unset BASE, or `{engine.name} pull` it."
            )
        print(f"base: {given}, as BASE says", flush=True)
        return Base(given, "pulled")
    if engine.has_image(pinned) or _pull(engine, pinned):
        print(f"base: {pinned}", flush=True)
        return Base(pinned, "pulled")
    lock = ROOT / "environment" / "apt.lock"
    name = f"racdino-base:{_key(lock)}"
    if not engine.has_image(name):
        print("base: no registry answers for the pinned one, so one is made of apt.lock (about 40 s)", flush=True)
        with tempfile.TemporaryDirectory(prefix="racdino-base-") as folder:
            archive = Path(folder) / "base.tar"
            bootstrap(archive)
            engine.output(["import", str(archive), name])
    print(f"base: {name}, bootstrapped from apt.lock", flush=True)
    return Base(name, "bootstrapped")


def bootstrap(archive: Path, debs: Path | None = None) -> None:
    """Write a minimal Debian of exactly the base set of apt.lock: the same bytes for the same lock.

    Args:
        debs: a folder with the packages, of a bundle; without it they are fetched.
    """
    for program, package in (("mmdebstrap", "mmdebstrap"), ("dpkg-deb", "dpkg"), ("/usr/lib/apt/apt-helper", "apt")):
        if not shutil.which(program):
            raise ImageError(
                f"no registry answers for the base image, and {program} is not here to bootstrap one: apt install "
                f"{package}, or pull the base where a registry answers and bring it (docker save, docker load)."
            )
    lock = ROOT / "environment" / "apt.lock"
    cache = cache_root() / "debs"
    command: list[str | Path] = [ROOT / "docker" / "fetch-debs", lock, "base", cache]
    answer = subprocess.run([*command, *([debs] if debs else [])], check=False)
    if answer.returncode:
        raise ImageError("the packages of the base could not be fetched; the reason is above.")
    with tempfile.TemporaryDirectory(prefix="racdino-repository-") as folder:
        repository = Path(folder)
        repository.chmod(0o755)  # apt reads it as a user of its own
        _make_repository(repository, lock, cache)
        _mmdebstrap(archive, repository, lock)


def _make_repository(repository: Path, lock: Path, cache: Path) -> None:
    """An apt repository of the locked files alone, so that apt has nothing to choose."""
    stanzas = []
    for deb in parse_apt_lock(lock, {"base"}).values():
        (repository / deb.file).symlink_to(cache / deb.file)
        control = subprocess.run(
            ["dpkg-deb", "--field", cache / deb.file], capture_output=True, text=True, check=True
        ).stdout
        stanzas.append(f"{control}Filename: ./{deb.file}\nSize: {deb.size}\nSHA256: {deb.sha256}\n")
    (repository / "Packages").write_text("\n".join(stanzas), encoding="utf-8")


def _mmdebstrap(archive: Path, repository: Path, lock: Path) -> None:
    names = ",".join(parse_apt_lock(lock, {"base"}))
    options = [
        *("--variant=apt", "--architectures=amd64", f"--include={names}", f"--hook-dir={_MERGED_USR}"),
        f"--dpkgopt={ROOT / 'docker' / 'dpkg.cfg'}",
        '--customize-hook=rm -rf "$1"/var/log/* "$1"/var/cache/ldconfig/aux-cache "$1"/etc/apt/sources.list',
        '--customize-hook=rm -f "$1"/etc/hostname "$1"/etc/resolv.conf',
    ]
    if sources().is_file():  # where the build inside fetches the other packages from, as official images say it
        options.append(f"--customize-hook=copy-in {sources()} /etc/apt/sources.list.d")
    command = ["mmdebstrap", *options, "bookworm", str(archive), f"deb [trusted=yes] copy:{repository} ./"]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch(lock))}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if answer.returncode:
        words = "\n".join(answer.stderr.splitlines()[-8:])
        raise ImageError(f"mmdebstrap could not make the base; its last lines:\n{words}")


def epoch(lock: Path) -> int:
    """The time that stands for "now" in whatever is made from this lock: its date in the dated archive."""
    return calendar.timegm(time.strptime(read_header(lock)["snapshot"], "%Y%m%dT%H%M%SZ"))


def sources() -> Path:
    """The file that names this machine's Debian archive."""
    return Path(os.environ.get("DEBIAN_SOURCES", _SOURCES))


def _key(lock: Path) -> str:
    """Of everything that shapes a bootstrapped base."""
    parts = [lock, ROOT / "docker" / "dpkg.cfg", *([sources()] if sources().is_file() else [])]
    recipe = inspect.getsource(_mmdebstrap).encode()
    return hashlib.sha256(b"\0".join([recipe, *(part.read_bytes() for part in parts)])).hexdigest()[:12]


def _pull(engine: Engine, name: str) -> bool:
    command = [str(engine.path), "pull", "--quiet", name]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        return False
    return answer.returncode == 0
