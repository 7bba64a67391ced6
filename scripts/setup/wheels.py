"""Wheels of the packages that have none in the registry, compiled once and kept by everything that shapes them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from racdino.environment.hashing import sha256
from racdino.environment.locks import Pin
from scripts.setup.errors import SetupError
from scripts.setup.mutex import exclusive
from scripts.setup.tools import Tools, parallel_compilers

_RECORD = "wheel.json"


@dataclass(frozen=True)
class Recipe:
    """How one sdist becomes a wheel.

    switches: variables that its setup.py reads. expected: the usual seconds here. gib: memory of one compiler.
    """

    pin: Pin
    switches: Mapping[str, str]
    expected: float
    gib: int = 2


@dataclass(frozen=True)
class Wheel:
    """A built wheel and its sha256, recorded when it was built."""

    path: Path
    sha256: str


def ensure_wheel(tools: Tools, python: Path, recipe: Recipe, facts: Mapping[str, Any], cache: Path) -> Wheel:
    """The wheel of a recipe: the cached one, or a new one built with ``python``'s packages.

    Args:
        facts: everything besides the recipe that shapes the result; its digest is the cache key.
    Raises:
        SetupError: the sdist could not be fetched or does not compile.
    """
    shape = {"sdist": recipe.pin._asdict(), "switches": dict(recipe.switches), **facts}
    key = hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:24]
    folder = cache / "wheels" / f"{recipe.pin.name}-{recipe.pin.version}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder, f"another setup is building {recipe.pin.name}") as lock:
        tools = dataclasses.replace(tools, keep_open=(*tools.keep_open, lock))
        return _cached(folder) or _build(tools, python, recipe, shape, folder)


def _cached(folder: Path) -> Wheel | None:
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    wheel = folder / record["file"]
    if not wheel.is_file():
        return None
    if sha256(wheel) != record["sha256"]:
        print(f"{wheel.name}: the cached wheel is not what was built; building it again")
        return None
    return Wheel(wheel, record["sha256"])


def _build(tools: Tools, python: Path, recipe: Recipe, shape: Mapping[str, Any], folder: Path) -> Wheel:
    """Build in the cache folder itself, so that an interrupted compilation continues with the objects it has."""
    name = recipe.pin.name
    source = _unpacked(tools, python, recipe, folder)
    # ninja vouches for the objects in build/temp*; nothing vouches for a library that was being linked.
    for leftover in (*source.glob("build/lib*"), *source.glob("build/bdist*")):
        shutil.rmtree(leftover)
    jobs = parallel_compilers(recipe.gib)
    output = folder / "out"
    shutil.rmtree(output, ignore_errors=True)
    options = ["--verbose", "--no-deps", "--no-index", "--no-build-isolation"]
    tools.run(
        [python, "-m", "pip", "wheel", *options, "-w", output, source],
        f"{name} {recipe.pin.version}: compiling",
        recipe.expected,
        {**recipe.switches, "PIP_NO_CACHE_DIR": "1", "MAX_JOBS": os.environ.get("MAX_JOBS", str(jobs))},
    )
    (built,) = output.glob("*.whl")
    wheel = Wheel(folder / built.name, sha256(built))
    built.replace(wheel.path)
    record = {"file": wheel.path.name, "sha256": wheel.sha256, "built from": shape}
    temporary = folder / "wheel.new"
    temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    temporary.replace(folder / _RECORD)
    shutil.rmtree(folder / "build")
    shutil.rmtree(output)
    return wheel


def _unpacked(tools: Tools, python: Path, recipe: Recipe, folder: Path) -> Path:
    """The sdist's source tree, from an archive that matches the lock; a tree that is already there is continued."""
    name, version, hashes = recipe.pin.name, recipe.pin.version, recipe.pin.hashes
    target = folder / "build"
    if not target.is_dir():
        download, fresh = folder / "sdist", folder / "build.new"
        for leftover in (download, fresh):
            shutil.rmtree(leftover, ignore_errors=True)
        requirement = folder / "sdist.lock"
        requirement.write_text(f"{name}=={version} " + " ".join(f"--hash=sha256:{value}" for value in hashes) + "\n")
        options = ["--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--require-hashes"]
        tools.run(
            [python, "-m", "pip", "download", *options, "-r", requirement, "-d", download],
            f"{name} {version}: fetching its source",
            20,
            {**recipe.switches, "PIP_NO_CACHE_DIR": "1"},
        )
        (archive,) = download.iterdir()
        if sha256(archive) not in hashes:
            raise SetupError(f"{archive.name} is not the file in the lock: delete {folder} and run `make setup` again.")
        with tarfile.open(archive) as opened:
            opened.extractall(fresh)
        shutil.rmtree(download)
        fresh.rename(target)
    (source,) = target.iterdir()
    return source
