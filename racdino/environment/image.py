"""What the build of the image wrote about itself, and which variant an environment is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from racdino.environment.manifest import NOTES
from racdino.environment.state import read_state


def read_image(prefix: str | Path) -> dict[str, Any] | None:
    """``image.json``: variant, revision, version, created, python, base, arch-list, locks; None outside the image.

    Raises:
        json.JSONDecodeError: the file is damaged.
    """
    return _read(prefix, "image.json")


def read_sbom(prefix: str | Path) -> dict[str, Any] | None:
    """The CycloneDX list of the image's packages; None outside the image.

    Raises:
        json.JSONDecodeError: the file is damaged.
    """
    return _read(prefix, "sbom.cdx.json")


def variant(prefix: str | Path) -> str | None:
    """``cpu`` or ``cu118``; None where neither the image's build nor ``make setup`` made this environment."""
    if image := read_image(prefix):
        return str(image["variant"])
    state = read_state(prefix)
    return state.variant if state else None


def _read(prefix: str | Path, name: str) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads((Path(prefix) / NOTES / name).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return content
