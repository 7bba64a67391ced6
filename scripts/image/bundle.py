"""Everything a build takes from the network in one folder, with checksums: `invoke bundle`, `make image BUNDLE=DIR`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scripts.image.base import Base
from scripts.image.engine import Engine


@dataclass(frozen=True)
class Bundle:
    """A bundle as the engine has it: the image with its files, and the base that was made from it."""

    name: str
    base: Base


def open_bundle(engine: Engine, folder: Path) -> Bundle:
    raise NotImplementedError
