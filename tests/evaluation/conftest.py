"""One miniature data set for all tests of the evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from miniature import infos_of, write_tables
from nuscenes import NuScenes


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("data") / "nuscenes")


@pytest.fixture(scope="session")
def nusc(root: Path) -> NuScenes:
    return NuScenes("v1.0-mini", str(root), verbose=False)


@pytest.fixture(scope="session")
def infos(nusc: NuScenes) -> list[dict[str, Any]]:
    return infos_of(nusc)
