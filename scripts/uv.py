"""Find uv at the version in environment/bootstrap.lock, where scripts/bootstrap.sh leaves it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from racdino.environment.locks import LOCKS, parse_lock


class UvError(RuntimeError):
    """uv is not at hand; the message says how to get it."""


def cache_root() -> Path:
    """The user's cache folder for this project."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "racdino"


def find_uv() -> Path:
    """The uv that bootstrap.sh chose: ``$RACDINO_UV``, a matching one on PATH, or the one in the cache."""
    version = parse_lock(LOCKS / "bootstrap.lock")["uv"].version
    candidates = [os.environ.get("RACDINO_UV"), shutil.which("uv"), str(cache_root() / "uv" / version / "bin" / "uv")]
    for candidate in candidates:
        if candidate and _version(candidate) == version:
            return Path(candidate)
    raise UvError(f"uv {version} is not at hand; `make setup` obtains it.")


def _version(uv: str) -> str | None:
    try:
        answer = subprocess.run([uv, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    words = answer.stdout.split()
    return words[1] if answer.returncode == 0 and len(words) > 1 else None
