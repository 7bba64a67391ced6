"""Where a command works and where its results go, with a checkout mounted in the image and without one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

WORKSPACE = Path("/workspace")
OUTPUTS = Path("/outputs")
PROJECT = Path(__file__).resolve().parents[2]


def in_image() -> bool:
    """Whether this is the image, with its entrypoint or without."""
    return bool(os.environ.get("RACDINO_IMAGE"))


def is_mounted() -> bool:
    """Whether something is mounted at the workspace, which the image has empty."""
    try:
        return any(WORKSPACE.iterdir())
    except PermissionError:
        return True
    except (FileNotFoundError, NotADirectoryError):
        return False


def is_checkout(folder: Path) -> bool:
    """Whether a folder holds sources to train with."""
    return any((folder / name).exists() for name in ("train.py", "val.py", "models", "configs"))


def enter() -> None:
    """With nothing mounted, work in the image's own checkout."""
    if Path.cwd() == WORKSPACE and not is_mounted():
        os.chdir(PROJECT)


def outputs() -> Path:
    """The folder for results: ``$RACDINO_OUTPUTS``, else, outside the image, ``outputs`` in the checkout.

    In the image: ``outputs`` in the mounted checkout, else ``/outputs``, else ``~/outputs``, whichever first can be
    written; the last is lost with the container unless the home is mounted, so it is said.
    """
    if chosen := os.environ.get("RACDINO_OUTPUTS"):
        return Path(chosen)
    if not in_image():
        return PROJECT / "outputs"
    here = Path.cwd()
    if here != PROJECT and is_checkout(here) and _can_be_written(here / "outputs"):
        return here / "outputs"
    if OUTPUTS.is_dir() and _can_be_written(OUTPUTS):
        return OUTPUTS
    home = Path.home() / "outputs"
    print(f"racdino: neither {here} nor {OUTPUTS} can be written, so results go to {home}.", file=sys.stderr)
    return home


def _can_be_written(folder: Path) -> bool:
    existing = folder if folder.is_dir() else folder.parent
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
