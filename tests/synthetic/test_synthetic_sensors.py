"""Images, LiDAR and radar agree with the devkit's geometry and with ray casting written a second time."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from nuscenes import NuScenes
from nuscenes.utils.data_classes import RadarPointCloud
from nuscenes.utils.geometry_utils import BoxVisibility, points_in_box, transform_matrix, view_points
from pyquaternion import Quaternion

from racdino.data.radar_files import FIELDS, read_radar
from racdino.synthetic import cameras, lidar, radar
from racdino.synthetic.calibration import CAMERAS, Mount
from racdino.synthetic.files import write_radar
from racdino.synthetic.geometry import Boxes
from racdino.synthetic.parameters import Parameters
from racdino.synthetic.seeding import generator
from racdino.synthetic.world import World

Worlds = dict[str, tuple[World, dict[str, Mount]]]


def seconds(nusc: NuScenes, record: dict) -> tuple[str, float]:
    scene = nusc.get("scene", nusc.get("sample", record["sample_token"])["scene_token"])
    first = nusc.get("sample", scene["first_sample_token"])["timestamp"]
    return scene["name"], (record["timestamp"] - first) * 1e-6


def first_hit(boxes: Boxes, origin: np.ndarray, direction: np.ndarray) -> tuple[float, int]:
    """Distance to and index of the first cuboid that one ray meets; plane by plane, in plain Python."""
    best, owner = np.inf, -1
    aside = np.linalg.norm(np.cross(boxes.centre - origin, direction), axis=1) / np.linalg.norm(direction)
    for i, (centre, size, yaw) in enumerate(zip(boxes.centre, boxes.size, boxes.yaw, strict=True)):
        if aside[i] > np.linalg.norm(size) / 2:
            continue
        c, s = np.cos(yaw), np.sin(yaw)
        o, d = ([c * v[0] + s * v[1], -s * v[0] + c * v[1], v[2]] for v in (origin - centre, direction))
        for axis in range(3):
            for side in (-size[axis] / 2, size[axis] / 2):
                if d[axis] == 0:
                    continue
                k = (side - o[axis]) / d[axis]
                at = [o[j] + k * d[j] for j in range(3)]
                if 0 < k < best and all(abs(at[j]) <= size[j] / 2 + 1e-9 for j in range(3) if j != axis):
                    best, owner = k, i
    return best, owner


def test_boxes_in_the_images_are_where_the_devkit_projects_them(
    nusc: NuScenes, worlds: Worlds, tiny: Parameters
) -> None:
    compared = 0
    for sample in nusc.sample[::2]:
        for channel in CAMERAS:
            record = nusc.get("sample_data", sample["data"][channel])
            name, t = seconds(nusc, record)
            world, mounts = worlds[name]
            canvas = cameras.render(world, t, mounts[channel], tiny.image_size, tiny.seed)
            visible = canvas.visible()
            # Moving things have left their annotated place by the camera's trigger time: still ones only.
            _, boxes, intrinsic = nusc.get_sample_data(record["token"], BoxVisibility.ALL)
            for box in boxes:
                centre = np.array(nusc.get("sample_annotation", box.token)["translation"])
                thing = int(np.linalg.norm(world.boxes(t).centre - centre, axis=1).argmin())
                still = world.things[thing].motion.speed == 0
                if not still or visible.get(thing, 0) < 40 or visible[thing] < canvas.covered[thing]:
                    continue
                corners = view_points(box.corners(), intrinsic, normalize=True)[:2]
                rows, columns = np.nonzero(canvas.owner == thing)
                found = [columns.min(), columns.max(), rows.min(), rows.max()]
                expected = [corners[0].min(), corners[0].max(), corners[1].min(), corners[1].max()]
                np.testing.assert_allclose(found, expected, atol=1.6)
                compared += 1
    assert compared > 10


def test_the_files_hold_the_rendered_images(nusc: NuScenes, worlds: Worlds, tiny: Parameters, root: Path) -> None:
    record = nusc.get("sample_data", nusc.sample[1]["data"]["CAM_BACK_LEFT"])
    name, t = seconds(nusc, record)
    world, mounts = worlds[name]
    canvas = cameras.render(world, t, mounts["CAM_BACK_LEFT"], tiny.image_size, tiny.seed)
    written = cv2.imread(str(root / record["filename"])).astype(float)
    assert np.abs(written - canvas.image).mean() < 4


def test_every_pixel_shows_the_nearest_thing(worlds: Worlds, tiny: Parameters) -> None:
    world, mounts = next(iter(worlds.values()))
    for channel in ("CAM_FRONT", "CAM_BACK_RIGHT"):
        canvas = cameras.render(world, 0.5, mounts[channel], tiny.image_size, tiny.seed)
        T_global_from_camera = world.ego_pose(0.5) @ mounts[channel].T_ego_from_sensor
        random, boxes = np.random.default_rng(0), lidar.shrunk(world.boxes(0.5))
        wrong = 0
        pixels = random.integers([0, 0], tiny.image_size, (250, 2))
        for u, v in pixels:
            ray = T_global_from_camera[:3, :3] @ np.linalg.inv(canvas.intrinsic) @ [u, v, 1.0]
            depth, owner = first_hit(boxes, T_global_from_camera[:3, 3], ray)
            wrong += owner != canvas.owner[v, u] and depth < 140  # beyond, things are not drawn
        assert wrong <= 10  # on edges, where polygons are drawn one pixel fatter


def test_lidar_points_lie_on_the_first_surface_of_their_ray(worlds: Worlds) -> None:
    world, mounts = next(iter(worlds.values()))
    mount = mounts["LIDAR_TOP"].T_ego_from_sensor
    points = lidar.scan(world, 0.5, mount, generator(0, "scan"))
    T_global_from_lidar = world.ego_pose(0.5) @ mount
    chosen = np.random.default_rng(0).choice(len(points), 250, replace=False)
    on_things, boxes = 0, lidar.shrunk(world.boxes(0.5))
    for point in points[chosen, :3].astype(np.float64):
        distance = np.linalg.norm(point)
        ray = T_global_from_lidar[:3, :3] @ point / distance
        expected, owner = first_hit(boxes, T_global_from_lidar[:3, 3], ray)
        if ray[2] < 0 and -T_global_from_lidar[2, 3] / ray[2] < expected:
            expected, owner = -T_global_from_lidar[2, 3] / ray[2], -1
        assert abs(distance - expected) < 6 * lidar.NOISE
        on_things += owner >= 0
    assert on_things > 50


def test_lidar_rings_are_elevations(nusc: NuScenes, root: Path) -> None:
    record = nusc.get("sample_data", nusc.sample[0]["data"]["LIDAR_TOP"])
    points = np.fromfile(root / record["filename"], np.float32).reshape(-1, 5)
    assert len(points) > 5000
    elevation = np.arcsin(points[:, 2] / np.linalg.norm(points[:, :3], axis=1))
    np.testing.assert_allclose(elevation, lidar.BEAMS[points[:, 4].astype(int)], atol=1e-4)
    assert points[:, 3].min() >= 0
    assert points[:, 3].max() <= 255


def test_radar_files_read_alike_by_us_and_the_devkit(nusc: NuScenes, root: Path) -> None:
    kept, read = 0, 0
    for record in [r for r in nusc.sample_data if r["sensor_modality"] == "radar"][::7]:
        path = root / record["filename"]
        states = {"invalid_states": range(18), "dynprop_states": range(8), "ambig_states": range(5)}
        points = read_radar(path)
        np.testing.assert_array_equal(points, RadarPointCloud.from_file(str(path), **states).points)
        kept, read = kept + RadarPointCloud.from_file(str(path)).nbr_points(), read + points.shape[1]
    assert 0.6 * read < kept < 0.95 * read  # the default filters drop some, as on real sweeps


def test_an_empty_radar_sweep_is_one_of_nan(tmp_path: Path) -> None:
    write_radar(tmp_path / "empty.pcd", np.zeros(0, radar.POINT))
    assert RadarPointCloud.from_file(str(tmp_path / "empty.pcd")).nbr_points() == 0
    assert read_radar(tmp_path / "empty.pcd").shape == (18, 0)


@pytest.mark.parametrize("moving", [False, True])
def test_radar_velocity_in_a_box_is_the_radial_part_of_its_velocity(nusc: NuScenes, root: Path, moving: bool) -> None:
    errors = []
    for sample in nusc.sample:
        for channel in [name for name in sample["data"] if name.startswith("RADAR")]:
            record = nusc.get("sample_data", sample["data"][channel])
            points = RadarPointCloud.from_file(str(root / record["filename"])).points
            _, boxes, _ = nusc.get_sample_data(record["token"])
            calibration = nusc.get("calibrated_sensor", record["calibrated_sensor_token"])
            pose = nusc.get("ego_pose", record["ego_pose_token"])
            turn = (Quaternion(pose["rotation"]) * Quaternion(calibration["rotation"])).inverse
            for box in boxes:
                velocity = turn.rotate(nusc.box_velocity(box.token))[:2]
                if np.isnan(velocity).any() or (np.linalg.norm(velocity) > 0.5) != moving:
                    continue
                inside = points[:, points_in_box(box, points[:3])]
                sight = inside[:2] / np.linalg.norm(inside[:2], axis=0)
                expected = velocity @ sight * sight
                errors += np.linalg.norm(inside[8:10] - expected, axis=0).tolist()
    assert len(errors) > 25
    # Clutter that happens to lie in a box, and things that change their speed, are the rest.
    assert np.mean(np.array(errors) < 0.4) > 0.95


def test_raw_radar_velocity_differs_by_the_sensors_own_motion(nusc: NuScenes, root: Path) -> None:
    compared = 0
    for record in nusc.sample_data:
        if record["sensor_modality"] != "radar" or not (record["prev"] and record["next"]):
            continue
        before, after = (nusc.get("sample_data", record[end]) for end in ("prev", "next"))
        places = []
        for other in (before, after):
            pose = nusc.get("ego_pose", other["ego_pose_token"])
            mount = nusc.get("calibrated_sensor", other["calibrated_sensor_token"])
            T_global_from_ego = transform_matrix(pose["translation"], Quaternion(pose["rotation"]))
            places.append(T_global_from_ego[:3, :3] @ mount["translation"] + T_global_from_ego[:3, 3])
        own = (places[1] - places[0]) / ((after["timestamp"] - before["timestamp"]) * 1e-6)
        pose = nusc.get("ego_pose", record["ego_pose_token"])
        turn = (Quaternion(pose["rotation"]) * Quaternion(mount["rotation"])).inverse
        points = read_radar(root / record["filename"]).astype(np.float64)
        sight = points[:2] / np.linalg.norm(points[:2], axis=0)
        expected = turn.rotate(own)[:2] @ sight * sight
        raw, compensated = (points[FIELDS.index(name) : FIELDS.index(name) + 2] for name in ("vx", "vx_comp"))
        np.testing.assert_allclose(compensated - raw, expected, atol=0.03)
        compared += points.shape[1]
    assert compared > 500


def test_radar_cross_section_tells_classes_apart(worlds: Worlds) -> None:
    found: dict[str, list[float]] = {"bus": [], "pedestrian": []}
    for world, mounts in worlds.values():
        for step in range(20):
            t = step * 0.3
            mount = mounts["RADAR_FRONT"].T_ego_from_sensor
            points = radar.measure(world, t, mount, generator(step, "rcs"))
            places = np.stack([points[name] for name in ("x", "y", "z")], -1).astype(np.float64)
            pose = world.ego_pose(t) @ mount
            boxes = world.boxes(t)
            for i, thing in enumerate(world.things):
                if thing.kind.name in found and np.linalg.norm(boxes.centre[i] - pose[:3, 3]) < 60:
                    flat = places @ pose[:3, :3].T + pose[:3, 3] - boxes.centre[i]
                    inside = (np.abs(flat @ boxes.rotations()[i]) <= boxes.size[i] / 2).all(axis=1)
                    found[thing.kind.name] += points["rcs"][inside].tolist()
    assert np.mean(found["bus"]) > np.mean(found["pedestrian"]) + 10
