"""Everything a build takes from the network in one folder, with checksums: `invoke bundle`, `make image BUNDLE=DIR`.

DIR/base.tar     a minimal Debian, apt.lock's base set       DIR/debs/     every package of apt.lock
    DIR/seed.tar     Python 3.10 and uv                          DIR/python/   every file of the Python locks
    DIR/variant      cpu or cu118: whose Python files
DIR/SHA256SUMS   of all of these; `sha256sum -c SHA256SUMS` checks them anywhere
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from racdino.environment.hashing import sha256
from racdino.environment.locks import Pin, parse_lock
from scripts.image.base import Base, bootstrap
from scripts.image.engine import Engine
from scripts.image.errors import ImageError
from scripts.image.seed import Seed, write_seed
from scripts.locking.table import tomllib
from scripts.setup.errors import SetupError
from scripts.setup.machine import VARIANTS, choose_variant
from scripts.uv import UvError, find_uv

ROOT = Path(__file__).resolve().parents[2]
_SUMS, _VARIANT = "SHA256SUMS", "variant"
# bookworm's C library: what the image can use, so that uv finds the very file that it would choose from the index.
IMAGE_PLATFORM = "x86_64-manylinux_2_36"
_HELPER = "/usr/lib/apt/apt-helper"


@dataclass(frozen=True)
class Bundle:
    """A bundle as the engine has it: the image with its files, and base and seed that were in it."""

    name: str
    base: Base
    seed: Seed


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0: the folder holds everything. Run again, it fetches only what is missing."""
    parser = argparse.ArgumentParser(prog="invoke bundle", description="Collect what a build of the image fetches.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variant", choices=VARIANTS, help="as for `invoke build`")
    options = parser.parse_args(arguments)
    try:
        collect(options.folder.resolve(), choose_variant(options.variant or os.environ.get("VARIANT"), None))
    except (ImageError, SetupError, UvError) as error:
        print(f"bundle: {error}", file=sys.stderr)
        return 1
    return 0


def collect(folder: Path, variant: str) -> None:
    """Fill ``folder``.

    Raises:
        ImageError: a file cannot be fetched, or is not the one in its lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _SUMS).unlink(missing_ok=True)  # written last: a bundle without it is not finished
    print("bundle: Debian packages", flush=True)
    fetch: list[str | Path] = [
        ROOT / "docker" / "fetch-debs",
        ROOT / "environment" / "apt.lock",
        "base,runtime,gcc,nvcc,dev",
    ]
    if subprocess.run([*fetch, folder / "debs"], check=False).returncode:
        raise ImageError("the Debian packages could not be fetched; the reason is above.")
    print("bundle: base", flush=True)
    bootstrap(folder / "base.tar", folder / "debs")
    print("bundle: Python files", flush=True)
    _fetch_python(folder / "python", variant)
    print("bundle: Python and uv", flush=True)
    with tempfile.TemporaryDirectory(prefix="racdino-seed-") as work:
        write_seed(Path(work)).replace(folder / "seed.tar")
    (folder / _VARIANT).write_text(f"{variant}\n", encoding="utf-8")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _SUMS)
    sums = "".join(f"{sha256(path)}  {path.relative_to(folder)}\n" for path in files)
    (folder / _SUMS).write_text(sums, encoding="utf-8")
    size = sum(path.stat().st_size for path in files) / 2**30
    print(f"bundle: {len(files)} files, {size:.1f} GiB in {folder}; build from it with `make image BUNDLE={folder}`.")


def open_bundle(engine: Engine, folder: Path, variant: str) -> Bundle:
    """Check every file of a bundle and hand it to the engine.

    Raises:
        ImageError: it is no finished bundle, a file is not the one that was collected, or it is of another variant.
    """
    sums = folder / _SUMS
    for name in (_SUMS, _VARIANT):
        if not (folder / name).is_file():
            raise ImageError(f"{folder} is no finished bundle ({name} is missing): `invoke bundle` makes one.")
    check = ["sha256sum", "--check", "--quiet", "--strict", _SUMS]
    answer = subprocess.run(check, cwd=folder, capture_output=True, text=True, check=False)
    if answer.returncode:
        first = (answer.stdout + answer.stderr).splitlines()[0]
        raise ImageError(f"the bundle {folder} is damaged ({first}): copy it again, or run `invoke bundle`.")
    held = (folder / _VARIANT).read_text(encoding="utf-8").strip()
    if held != variant:
        raise ImageError(
            f"the bundle {folder} holds the files of {held}, not of {variant}: build with --variant {held}, or run "
            f"`invoke bundle {folder} --variant {variant}` where there is a network."
        )
    key = sha256(sums)[:12]
    base, seed, files = (f"racdino-{part}:bundle-{key}" for part in ("base", "seed", "bundle"))
    for name, archive in ((base, folder / "base.tar"), (seed, folder / "seed.tar")):
        if not engine.has_image(name):
            engine.output(["import", str(archive), name])
    if not engine.has_image(files):
        _import_files(engine, folder, files)
    with tarfile.open(folder / "seed.tar") as opened:
        origin = opened.extractfile("origin")
        assert origin is not None
        seeded = Seed(seed, *origin.read().decode().split())
    print(f"bundle: {folder}, every file as collected; the network stays off", flush=True)
    return Bundle(files, Base(base, "bootstrapped"), seeded)


def _import_files(engine: Engine, folder: Path, name: str) -> None:
    """debs/ and python/ as an image, streamed: the engine's copy is the only one."""
    command = [str(engine.path), "import", "-", name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        with suppress(BrokenPipeError), tarfile.open(fileobj=process.stdin, mode="w|") as archive:
            for part in ("debs", "python"):
                archive.add(folder / part, part)
        with suppress(BrokenPipeError):  # an engine that stops reading says why, and its status is looked at
            process.stdin.close()
        if process.wait():
            raise ImageError(f"`{engine.name} import` of {folder} failed; its own words are above.")


def _fetch_python(target: Path, variant: str) -> None:
    """Every file that a lock allows and this platform can use, held to the lock's hashes."""
    target.mkdir(exist_ok=True)
    words: list[str] = []
    for name in ("build", variant, "dev", "tools", "bootstrap", *(["flash-attn"] if variant == "cu118" else [])):
        pins = parse_lock(ROOT / "environment" / f"{name}.lock")
        for url, digest in _addresses(pins):
            path = target / unquote(url.rpartition("/")[2])
            if path.is_file() and sha256(path) == digest:
                continue
            words += [url, str(path), f"SHA256:{digest}"]
    options = ["-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=3"]
    if bundle := os.environ.get("SSL_CERT_FILE"):
        options += ["-o", f"Acquire::https::CAInfo={bundle}"]
    if words and subprocess.run([_HELPER, *options, "download-file", *words], check=False).returncode:
        raise ImageError("a Python file could not be fetched, or is not the one in its lock; the reason is above.")


def _addresses(pins: dict[str, Pin]) -> Iterator[tuple[str, str]]:
    """Address and sha256 of the files of some pins, as the configured index gives them."""
    yield from ((pin.url, pin.hashes[0]) for pin in pins.values() if pin.url)
    with tempfile.TemporaryDirectory(prefix="racdino-bundle-") as folder:
        work = Path(folder)
        wanted = "".join(f"{pin.name}=={pin.version}\n" for pin in pins.values() if not pin.url)
        (work / "in.txt").write_text(wanted)
        command: list[str | Path] = [
            find_uv(),
            "pip",
            "compile",
            "in.txt",
            "--no-deps",
            "--quiet",
            "--format",
            "pylock.toml",
        ]
        platform = ["--python-version", "3.10", "--python-platform", IMAGE_PLATFORM, "--output-file", "pylock.toml"]
        answer = subprocess.run([*command, *platform], cwd=work, capture_output=True, text=True, check=False)
        if answer.returncode:
            raise ImageError(f"the package index gives no addresses: {answer.stderr.strip().splitlines()[-1]}")
        found = tomllib.loads((work / "pylock.toml").read_text(encoding="utf-8"))
    for package in found["packages"]:
        files = package.get("wheels") or [package["sdist"]]
        pin = pins[package["name"]]
        for file in files:
            if file["hashes"]["sha256"] in pin.hashes:
                yield file["url"], file["hashes"]["sha256"]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
