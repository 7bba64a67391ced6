"""Is what is installed what was locked and, byte for byte, what was verified at install time?"""

from __future__ import annotations

import importlib.metadata
import sys
from functools import lru_cache
from pathlib import Path

from racdino.environment import extension_cache, locks, manifest
from racdino.environment.hashing import sha256
from racdino.environment.info import SHOWN
from racdino.environment.locks import LOCKS, LockError
from racdino.environment.state import State, read_state
from racdino.verify.errors import VerifyError


def versions() -> dict[str, str]:
    """Python and the packages whose versions decide whether the others work; "not installed" where one is absent."""
    found = {"python": sys.version.split()[0]}
    for name in SHOWN:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def check_versions() -> str:
    """Every package against its lock.

    Raises:
        VerifyError: a version differs, or this environment was not made by ``make setup``.
    """
    state = _state()
    for name, digest in state.locks.items():
        if not (LOCKS / name).is_file() or locks.digest(LOCKS / name) != digest:
            raise VerifyError(f"environment/{name} is not the lock this environment was set up from; run `make setup`.")
    _refuse([difference for difference in _differences() if difference.kind == "version"])
    return f"{len(state.packages)} packages as in {', '.join(state.locks)}"


def check_files() -> str:
    """Every installed file against the manifest.

    Raises:
        VerifyError: a file was changed, lost or added, or this environment was not made by ``make setup``.
    """
    _state()
    _refuse([difference for difference in _differences() if difference.kind != "version"])
    packages = manifest.read(sys.prefix)["packages"].values()
    return f"{sum(len(package['files']) for package in packages)} files as in their archives"


def check_extension() -> str:
    """The compiled op against the record its build left.

    Raises:
        VerifyError: it was changed since, or was not built by this project.
    """
    library = extension_library()
    try:
        if not extension_cache.matches_record(library):
            raise VerifyError(f"{library.name} is not what its build recorded; run `./fix_dinov2_import.sh`.")
        return f"{library.name}, sha256 {sha256(library)[:12]}"
    except (OSError, KeyError, ValueError) as error:
        raise VerifyError(f"{library} has no record of its build ({error}); run `./fix_dinov2_import.sh`.") from error


def extension_library() -> Path:
    """The file of ``racdino._C``.

    Raises:
        VerifyError: it was not built, or from other sources.
    """
    try:
        from racdino.ops._library import find

        return find()
    except ImportError as error:
        raise VerifyError(str(error)) from error


@lru_cache(maxsize=1)  # two rows, one reading of some ten thousand files
def _differences() -> tuple[manifest.Difference, ...]:
    try:
        return tuple(manifest.compare(sys.prefix))
    except (manifest.ManifestError, LockError) as error:
        raise VerifyError(str(error)) from error


def _state() -> State:
    state = read_state(sys.prefix)
    if state is None:
        raise VerifyError(
            f"{sys.prefix} was not made, or not finished, by `make setup`, so nothing says what belongs in it."
        )
    return state


def _refuse(differences: list[manifest.Difference]) -> None:
    if differences:
        more = f" ({len(differences) - 1} more differ)" if len(differences) > 1 else ""
        anew = f"`rm -rf {sys.prefix} && make setup` makes the environment anew"
        raise VerifyError(f"{str(differences[0]).rstrip('.')}{more}; {anew}.")
