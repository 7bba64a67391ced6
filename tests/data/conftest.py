"""A tiny raw data set, its info files and the devkit's view of it."""

from __future__ import annotations

import pytest
from nuscenes.nuscenes import NuScenes
from raw_nuscenes import RawNuScenes

from racdino.data.info import read_infos
from racdino.data.main import main


@pytest.fixture
def raw(tmp_path):
    """A fresh, whole v1.0-mini of two scenes."""
    return RawNuScenes(tmp_path / "nuscenes")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """(folder, infos of its first scene, NuScenes object) of a data set with seven key frames a scene."""
    root = tmp_path_factory.mktemp("prepared") / "nuscenes"
    RawNuScenes(root, samples=7, seed=3)
    assert main(["prepare", "--root", str(root), "--version", "v1.0-mini"]) == 0
    infos = read_infos(root / "nuscenes_infos_train_mini_sweep.pkl")
    return root, infos, NuScenes("v1.0-mini", str(root), verbose=False)
