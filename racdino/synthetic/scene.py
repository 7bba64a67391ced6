"""One scene from nothing to files and records: what a worker process does."""

from __future__ import annotations

from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from racdino.synthetic import cameras, files, lidar, radar
from racdino.synthetic.annotations import annotate
from racdino.synthetic.calibration import CAMERAS, CHANNELS, LIDAR, RADARS, Mount, calibrate
from racdino.synthetic.geometry import transform
from racdino.synthetic.kinds import CLASSES
from racdino.synthetic.parameters import Parameters
from racdino.synthetic.road import LOCATIONS
from racdino.synthetic.scene_records import SceneRecords
from racdino.synthetic.schedule import Shot, shots
from racdino.synthetic.seeding import generator
from racdino.synthetic.world import World


def location_of(index: int) -> str:
    return LOCATIONS[index % len(LOCATIONS)]


def build_world(name: str, location: str, seed: int, lidar_mount: np.ndarray) -> World:
    """The first world of this name whose first LiDAR key frame has points on all ten classes in evaluation range.

    So every split, however small, can be evaluated on every class.
    """
    for attempt in count():
        world = World(name, location, seed, attempt)
        ego = world.ego_pose(0.0)
        points = _lidar_points(world, 0, lidar_mount, seed)
        boxes = world.boxes(0.0)
        near = np.linalg.norm(boxes.centre[:, :2] - ego[:2, 3], axis=1) < [thing.kind.range for thing in world.things]
        chosen = np.flatnonzero(near)
        counts = boxes[chosen].points_inside(transform(ego @ lidar_mount, points[:, :3].astype(np.float64)))
        if {world.things[i].kind.name for i in chosen[counts > 1]}.issuperset(CLASSES):
            return world
    raise AssertionError("unreachable")


def render_scene(parameters: Parameters, index: int, name: str, root: Path) -> dict[str, list[dict[str, Any]]]:
    """Write the files of the scene called ``name`` under ``root`` and return its records by table."""
    seed = parameters.seed
    mounts = calibrate(seed, name, parameters.image_size)
    world = build_world(name, location_of(index), seed, mounts[LIDAR].T_ego_from_sensor)
    records = SceneRecords(world, index, mounts, parameters)
    visible, covered = ([Counter[int]() for _ in range(parameters.samples_per_scene)] for _ in range(2))
    points: dict[str, list[np.ndarray]] = {"lidar": [], "radar": []}  # global, by sample
    for channel in CHANNELS:
        sweeps = parameters.camera_sweeps if channel in CAMERAS else parameters.lidar_sweeps
        times = shots(channel, parameters.samples_per_scene, sweeps, generator(seed, name, channel, "shots"))
        for shot in times:
            path = root / records.add(channel, shot)
            if channel in CAMERAS:
                canvas = cameras.render(world, shot.time * 1e-6, mounts[channel], parameters.image_size, seed)
                files.write_image(path, canvas.image)
                if shot.is_key:
                    visible[shot.sample].update(canvas.visible())
                    covered[shot.sample].update(canvas.covered)
                continue
            seen = _measure(world, shot, mounts[channel], seed, path)
            if shot.is_key:
                points["radar" if channel in RADARS else "lidar"].append(
                    transform(world.ego_pose(shot.time * 1e-6) @ mounts[channel].T_ego_from_sensor, seen)
                )
        records.link(channel)
    samples = parameters.samples_per_scene
    of_radars = [np.concatenate(points["radar"][i::samples]) for i in range(samples)]  # one radar came after the other
    annotate(records, points["lidar"], of_radars, visible, covered)
    return records.tables


def _measure(world: World, shot: Shot, mount: Mount, seed: int, path: Path) -> np.ndarray:
    """Write one sweep of the LiDAR or of a radar; (n, 3) its points, as a reader of the file finds them."""
    if mount.channel == LIDAR:
        points = _lidar_points(world, shot.time, mount.T_ego_from_sensor, seed)
        files.write_lidar(path, points)
        return points[:, :3].astype(np.float64)
    random = generator(seed, world.name, mount.channel, shot.time)
    sweep = radar.measure(world, shot.time * 1e-6, mount.T_ego_from_sensor, random)
    files.write_radar(path, sweep)
    return np.stack([sweep[name].astype(np.float64) for name in ("x", "y", "z")], -1)


def _lidar_points(world: World, time: int, mount: np.ndarray, seed: int) -> np.ndarray:
    return lidar.scan(world, time * 1e-6, mount, generator(seed, world.name, LIDAR, time))
