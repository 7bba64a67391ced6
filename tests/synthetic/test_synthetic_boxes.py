"""Boxes, velocities and point counts are those of the simulation, by the devkit's own functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud, RadarPointCloud
from nuscenes.utils.geometry_utils import points_in_box, transform_matrix
from pyquaternion import Quaternion

from racdino.synthetic.calibration import Mount
from racdino.synthetic.world import World

Worlds = dict[str, tuple[World, dict[str, Mount]]]


def scene_and_time(nusc: NuScenes, sample_token: str) -> tuple[str, float]:
    """The scene's name and the seconds since its first sample."""
    sample = nusc.get("sample", sample_token)
    scene = nusc.get("scene", sample["scene_token"])
    return scene["name"], (sample["timestamp"] - nusc.get("sample", scene["first_sample_token"])["timestamp"]) * 1e-6


def thing_of(world: World, t: float, translation: list[float]) -> int:
    apart = np.linalg.norm(world.boxes(t).centre - translation, axis=1)
    assert apart.min() < 2e-3
    return int(apart.argmin())


def global_points(nusc: NuScenes, root: Path, token: str) -> np.ndarray:
    """(3, n) of a key frame in the global frame, unfiltered."""
    record = nusc.get("sample_data", token)
    path = str(root / record["filename"])
    states = {"invalid_states": range(18), "dynprop_states": range(8), "ambig_states": range(5)}
    cloud = LidarPointCloud.from_file(path) if path.endswith("bin") else RadarPointCloud.from_file(path, **states)
    for table, field in (("calibrated_sensor", "calibrated_sensor_token"), ("ego_pose", "ego_pose_token")):
        pose = nusc.get(table, record[field])
        cloud.points = cloud.points.astype(np.float64)
        cloud.transform(transform_matrix(pose["translation"], Quaternion(pose["rotation"])))
    return cloud.points[:3]


def test_boxes_are_the_simulated_cuboids(nusc: NuScenes, worlds: Worlds) -> None:
    for record in nusc.sample_annotation:
        name, t = scene_and_time(nusc, record["sample_token"])
        world = worlds[name][0]
        thing = thing_of(world, t, record["translation"])
        expected = np.sort(world.boxes(t).corners()[thing], axis=0)
        np.testing.assert_allclose(np.sort(nusc.get_box(record["token"]).corners().T, axis=0), expected, atol=2e-3)


def test_devkit_velocity_equals_the_simulated_one(nusc: NuScenes, worlds: Worlds) -> None:
    moving = 0
    for record in nusc.sample_annotation:
        velocity = nusc.box_velocity(record["token"])
        if np.isnan(velocity).any():
            continue
        name, t = scene_and_time(nusc, record["sample_token"])
        thing = thing_of(worlds[name][0], t, record["translation"])
        # At an end of its chain the devkit's difference is that of half an interval inwards.
        middle = t + 0.25 * (bool(record["next"]) - bool(record["prev"]))
        expected = worlds[name][0].velocities(middle)[thing]
        np.testing.assert_allclose(velocity, expected, atol=0.06)
        moving += np.linalg.norm(expected) > 2
    assert moving > 10


def test_attributes_say_who_moves(nusc: NuScenes) -> None:
    for record in nusc.sample_annotation:
        velocity = np.linalg.norm(nusc.box_velocity(record["token"]))
        for token in record["attribute_tokens"]:
            moves = nusc.get("attribute", token)["name"].split(".")[1] in ("moving", "with_rider")
            assert np.isnan(velocity) or (velocity > 0.5) == moves


def test_nothing_drives_through_anything(worlds: Worlds) -> None:
    for world, _ in worlds.values():
        for t in (0.0, 1.0, 10.0, 20.0):
            boxes = world.boxes(t)
            for i, centre in enumerate(boxes.centre):
                others = np.delete(np.arange(len(boxes)), i)
                near = others[np.linalg.norm(boxes.centre[others, :2] - centre[:2], axis=1) < 25]
                grid = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 9)] * 2), -1).reshape(-1, 2) * boxes.size[i, :2]
                footprint = np.column_stack([grid, np.zeros(len(grid))]) @ boxes.rotations()[i].T + centre
                footprint[:, 2] = 0.1
                assert boxes[near].points_inside(footprint).sum() == 0


def test_point_counts_are_those_of_the_files(nusc: NuScenes, root: Path) -> None:
    total = np.zeros(2)
    for sample in nusc.sample:
        lidar = global_points(nusc, root, sample["data"]["LIDAR_TOP"])
        radars = [channel for channel in sample["data"] if channel.startswith("RADAR")]
        radar = np.concatenate([global_points(nusc, root, sample["data"][channel]) for channel in radars], axis=1)
        for token in sample["anns"]:
            record, box = nusc.get("sample_annotation", token), nusc.get_box(token)
            counts = [points_in_box(box, points).sum() for points in (lidar, radar)]
            assert counts == [record["num_lidar_pts"], record["num_radar_pts"]]
            total += counts
    assert (total > [1000, 100]).all()


def test_visibility_falls_with_occlusion(nusc: NuScenes) -> None:
    levels = {record["visibility_token"] for record in nusc.sample_annotation}
    assert levels == {"1", "2", "3", "4"}
