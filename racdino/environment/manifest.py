"""Every installed file against the hash that its archive gave for it.

An archive is verified by the lock's sha256 before it is unpacked, and carries a RECORD with the sha256 of each file.
``record`` gathers those right after an installation; ``compare`` hashes every file again, at any later time. Byte code
(``__pycache__``, ``*.pyc``) and our own notes in ``<prefix>/racdino`` are left out: Python and setup write them.
"""

from __future__ import annotations

import base64
import csv
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from racdino.environment.hashing import sha256
from racdino.environment.locks import LOCKS, Pin, normalised, parse_lock

NOTES = "racdino"
_ENVIRONMENT = "the environment itself"
_CHECKOUT = "racdino"
_UNHASHED = {"RECORD", "RECORD.jws", "RECORD.p7s"}


class ManifestError(RuntimeError):
    """There is no manifest, or none can be taken; the message says why and what to do."""


@dataclass(frozen=True)
class Difference:
    """One thing that is not as installed.

    kind: ``changed``, ``missing`` or ``unowned`` for a file (``path`` relative to the prefix), ``version`` for a
    package whose version is not the locked one, that is in no lock, or that is locked and not installed.
    """

    kind: str
    package: str
    path: str
    sentence: str

    def __str__(self) -> str:
        return self.sentence


def manifest_path(prefix: str | Path) -> Path:
    """Where the manifest of an environment lies."""
    return Path(prefix) / NOTES / "manifest.json"


def record(prefix: str | Path, locks: Sequence[str] = (), built: Mapping[str, str] | None = None) -> Path:
    """Take the manifest of a fresh installation, once every file is proven to be what its archive says.

    Args:
        prefix: the environment's folder (``.venv``).
        locks: names of the locks that were installed, in environment/.
        built: sha256 of each wheel that was built here, by package.
    Raises:
        ManifestError: a file differs from its archive or belongs to none, as a disturbed installation leaves behind.
    """
    prefix = Path(prefix).resolve()
    packages: dict[str, dict[str, Any]] = {}
    for folder in _dist_infos(prefix):
        name, version = _identity(folder)
        packages[name] = {"version": version, "files": _recorded_files(prefix, folder)}
        if built and name in built:
            packages[name]["wheel"] = built[name]
    owned = {path for package in packages.values() for path in package["files"]}
    ours = {path: _fingerprint(prefix / path) for path in _walk(prefix) - owned if not path.startswith("lib/")}
    packages[_ENVIRONMENT] = {"version": "", "files": ours}
    manifest = {"locks": list(locks), "packages": packages}
    differences = _compare_files(prefix, manifest)
    if differences:
        raise ManifestError(f"{differences[0]} {len(differences)} of the files are not what was installed.")
    path = manifest_path(prefix)
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".new")
    # Sorted: what is not in a RECORD comes from a set, whose order changes from one process to the next.
    temporary.write_text(json.dumps(manifest, separators=(",", ":"), sort_keys=True), encoding="utf-8")
    temporary.replace(path)
    return path


def compare(prefix: str | Path, locks: str | Path = LOCKS) -> list[Difference]:
    """What is installed now against the manifest and the locks; empty when both agree.

    Raises:
        ManifestError: no manifest was taken in this environment.
        LockError: a lock of the manifest is not in ``locks``.
    """
    prefix = Path(prefix).resolve()
    manifest = read(prefix)
    pins: dict[str, Pin] = {}
    for name in manifest["locks"]:
        pins |= parse_lock(Path(locks) / name)
    return _compare_packages(prefix, manifest, pins) + _compare_files(prefix, manifest)


def read(prefix: str | Path) -> dict[str, Any]:
    """The manifest as recorded: ``{"locks": [...], "packages": {name: {"version", "files": {path: sha256}}}}``."""
    path = manifest_path(prefix)
    anew = f"`rm -rf {prefix} && make setup` makes the environment anew"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ManifestError(f"{path} does not exist: {anew}, and takes it at the end.") from error
    except json.JSONDecodeError as error:
        raise ManifestError(f"{path} is damaged ({error}): {anew}.") from error


def installed_versions(prefix: str | Path) -> dict[str, str]:
    """Version of every installed package by canonical name, from the names of the dist-info folders."""
    return dict(_identity(folder) for folder in _dist_infos(Path(prefix)))


def _compare_packages(prefix: Path, manifest: Mapping[str, Any], pins: Mapping[str, Pin]) -> list[Difference]:
    installed = installed_versions(prefix)
    found = []
    for name in sorted(installed.keys() | pins.keys()):
        version, pin = installed.get(name), pins.get(name)
        if name == _CHECKOUT or (pin and pin.version == version):
            continue
        if version is None and pin:
            sentence = f"{name} {pin.version} is locked but not installed."
        elif pin is None:
            sentence = f"{name} {version} is installed but in no lock ({', '.join(manifest['locks'])})."
        else:
            sentence = f"{name} {version} is installed, {pin.version} is locked."
        found.append(Difference("version", name, "", sentence))
    return found


def _compare_files(prefix: Path, manifest: Mapping[str, Any]) -> list[Difference]:
    """Files against their hashes. A package of another version than recorded is one difference, not thousands."""
    installed = installed_versions(prefix)
    expected: dict[str, tuple[str, str]] = {}
    replaced: set[str] = set()
    for name, package in manifest["packages"].items():
        if name != _ENVIRONMENT and installed.get(name) != package["version"]:
            replaced |= set(package["files"])
            continue
        expected |= {path: (digest, name) for path, digest in package["files"].items()}
    present = _walk(prefix)
    found = []
    for path, digest in _fingerprints(prefix, sorted(expected.keys() & present)):
        if digest != expected[path][0]:
            owner = expected[path][1]
            found.append(Difference("changed", owner, path, f"{path} of {owner} differs from its archive."))
    for path in sorted(expected.keys() - present):
        owner = expected[path][1]
        found.append(Difference("missing", owner, path, f"{path} of {owner} is missing."))
    for path in sorted(present - expected.keys() - replaced - _files_of_others(prefix, manifest)):
        found.append(Difference("unowned", "", path, f"{path} belongs to no installed package."))
    return found


def _files_of_others(prefix: Path, manifest: Mapping[str, Any]) -> set[str]:
    """Files of packages that came later: each such package is one ``version`` difference already."""
    paths: set[str] = set()
    for folder in _dist_infos(prefix):
        name, version = _identity(folder)
        if manifest["packages"].get(name, {}).get("version") != version and (folder / "RECORD").is_file():
            paths |= _recorded_files(prefix, folder).keys()
    return paths


def _dist_infos(prefix: Path) -> list[Path]:
    return sorted(prefix.glob("lib/python3*/site-packages/*.dist-info"))


def _identity(dist_info: Path) -> tuple[str, str]:
    name, _, version = dist_info.name.removesuffix(".dist-info").rpartition("-")
    return normalised(name), version


def _recorded_files(prefix: Path, dist_info: Path) -> dict[str, str]:
    """sha256 of each of a package's files by path, from its RECORD; the RECORD itself as it is."""
    source = dist_info / "RECORD"
    if not source.is_file():
        raise ManifestError(f"{dist_info.name} has no RECORD: its installation did not finish.")
    site_packages = dist_info.parent
    files = {}
    with source.open(newline="", encoding="utf-8") as stream:
        for name, declared, _ in csv.reader(stream):
            path = os.path.relpath(os.path.normpath(site_packages / name), prefix)
            if _ignored(path):
                continue
            if declared.startswith("sha256="):
                encoded = declared.removeprefix("sha256=")
                files[path] = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).hex()
            elif Path(name).name in _UNHASHED:
                files[path] = _fingerprint(prefix / path)
            else:
                raise ManifestError(f"{source}: {name} has no sha256.")
    return files


def _ignored(path: str) -> bool:
    return path.endswith(".pyc") or f"{os.sep}__pycache__{os.sep}" in path


def _walk(prefix: Path) -> set[str]:
    """Every file and link below ``prefix`` that counts, relative to it."""
    paths: set[str] = set()
    for folder, subfolders, names in os.walk(prefix):
        relative = os.path.relpath(folder, prefix)
        subfolders[:] = [name for name in subfolders if name != "__pycache__" and (relative, name) != (".", NOTES)]
        links = [name for name in subfolders if os.path.islink(os.path.join(folder, name))]  # noqa: PTH114, PTH118
        paths |= {os.path.normpath(f"{relative}/{name}") for name in (*names, *links) if not name.endswith(".pyc")}
    return paths


def _fingerprints(prefix: Path, paths: Sequence[str]) -> Iterable[tuple[str, str]]:
    """(path, fingerprint) of many files, hashed in threads: hashlib works outside the interpreter lock."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        yield from zip(paths, pool.map(lambda path: _fingerprint(prefix / path), paths), strict=True)


def _fingerprint(path: Path) -> str:
    """sha256 of a file's content; of a link, where it points."""
    if path.is_symlink():
        return f"link to {path.readlink()}"
    try:
        return sha256(path)
    except OSError as error:
        return f"unreadable: {error.strerror}"
