"""One tiny data set for all tests of this folder, and the devkit's view of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from nuscenes import NuScenes

from racdino.synthetic.calibration import LIDAR, Mount, calibrate
from racdino.synthetic.dataset import synthesize
from racdino.synthetic.parameters import Parameters
from racdino.synthetic.scene import build_world, location_of
from racdino.synthetic.world import World

TINY = Parameters(scenes=2, samples_per_scene=3, image_size=(160, 90), seed=3, camera_sweeps=1)


@pytest.fixture(scope="session")
def tiny() -> Parameters:
    return TINY


@pytest.fixture(scope="session")
def worlds() -> dict[str, tuple[World, dict[str, Mount]]]:
    """By scene name what was rendered: the simulation and the car's sensors."""
    found = {}
    for index, name in enumerate(TINY.scene_names()):
        mounts = calibrate(TINY.seed, name, TINY.image_size)
        found[name] = build_world(name, location_of(index), TINY.seed, mounts[LIDAR].T_ego_from_sensor), mounts
    return found


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "tiny"
    assert synthesize(folder, TINY, workers=2)
    return folder


@pytest.fixture(scope="session")
def nusc(root: Path) -> NuScenes:
    return NuScenes(version=TINY.version, dataroot=str(root), verbose=False)
