"""racdino/show/wireframe.py: boxes project as in the devkit, and are cut exactly at the near plane and the borders."""

from __future__ import annotations

import numpy as np
import pytest
from nuscenes.utils.data_classes import Box
from nuscenes.utils.geometry_utils import view_points
from pyquaternion import Quaternion

from racdino.show.wireframe import EDGES, FRONT, NEAR, clip, corners, project

WIDTH, HEIGHT = 640, 360
INTRINSIC = np.array([[500.0, 0, 320], [0, 500, 180], [0, 0, 1]])


def boxes(count: int) -> np.ndarray:
    random = np.random.default_rng(7)
    rows = random.uniform(-1, 1, (count, 9)) * [30, 30, 2, 0, 0, 0, 7, 5, 5]
    rows[:, 3:6] = random.uniform(0.3, 8, (count, 3))
    return rows


def devkit_box(row: np.ndarray) -> Box:
    centre = np.add(row[:3], [0, 0, row[5] / 2])
    return Box(centre, row[[4, 3, 5]], Quaternion(axis=[0, 0, 1], radians=row[6]))


def devkit_edges(box: Box) -> set[frozenset[int]]:
    """The pairs of the devkit's corners that are an edge apart."""
    points = box.corners().T
    lengths = {frozenset((i, j)): np.linalg.norm(points[i] - points[j]) for i in range(8) for j in range(i)}
    sizes = sorted(lengths, key=lambda pair: min(abs(lengths[pair] - size) for size in box.wlh))
    return set(sizes[:12])


def lidar2img() -> np.ndarray:
    """A camera that looks along the LiDAR's y axis, a little turned and moved."""
    axes = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    pose = np.eye(4)
    pose[:3, :3] = INTRINSIC @ axes @ Quaternion(axis=[0.1, 0.2, 1], angle=0.3).rotation_matrix
    pose[:3, 3] = INTRINSIC @ [0.2, 0.5, -0.4]
    return pose


def test_corners_are_the_devkits():
    rows = boxes(50)
    for row, ours in zip(rows, corners(rows), strict=True):
        theirs = devkit_box(row).corners().T
        distances = np.linalg.norm(ours[:, None] - theirs[None], axis=-1)
        assert distances.min(1).max() < 1e-9
        assert sorted(distances.argmin(1)) == list(range(8))


def test_edges_are_a_cuboids_and_the_cross_is_on_its_front():
    row = np.array([1.0, 2, 3, 4.1, 2.2, 1.3, 0.6, 0, 0])
    ours, theirs = corners(row[None])[0], devkit_box(row).corners().T
    same = np.linalg.norm(ours[:, None] - theirs[None], axis=-1).argmin(1)
    assert {frozenset(pair) for pair in same[EDGES].tolist()} == devkit_edges(devkit_box(row))
    heading = np.array([np.cos(0.6), np.sin(0.6), 0])
    along = (ours[np.unique(FRONT)] - np.add(row[:3], [0, 0, row[5] / 2])) @ heading
    np.testing.assert_allclose(along, row[3] / 2)


def test_pixels_are_those_of_the_devkits_view_points():
    points = corners(boxes(30)).reshape(-1, 3)
    matrix = lidar2img()
    camera = np.linalg.inv(INTRINSIC) @ (points @ matrix[:3, :3].T + matrix[:3, 3]).T
    ahead = camera[2] > NEAR
    theirs = view_points(camera[:, ahead], INTRINSIC, normalize=True)[:2].T
    ours = project(points, matrix)[ahead]
    np.testing.assert_allclose(ours[:, :2] / ours[:, 2:], theirs, rtol=1e-9, atol=1e-6)
    assert 0 < ahead.sum() < len(ahead)


def test_a_segment_inside_is_left_as_it_is():
    segment = np.array([[[100.0 * 5, 50 * 5, 5], [300 * 9, 200 * 9, 9]]])
    pixels, kept = clip(segment, WIDTH, HEIGHT)
    np.testing.assert_allclose(pixels, [[[100, 50], [300, 200]]])
    assert kept.tolist() == [0]


def test_a_segment_through_the_camera_plane_ends_at_the_near_plane():
    """From 3 m ahead on the axis to 3 m behind, drifting 1 mm aside: at 0.1 m it is where a hand calculation says."""
    ends = np.array([[0.0, 0, 3], [0.001, 0, -3]])
    pixels, kept = clip((ends @ INTRINSIC.T)[None], WIDTH, HEIGHT)
    assert kept.tolist() == [0]
    share = (3 - NEAR) / 6
    np.testing.assert_allclose(pixels[0, 1], [320 + 500 * 0.001 * share / NEAR, 180])


@pytest.mark.parametrize("ends", [[[0, 0, -1], [1, 1, -4]], [[0, 0, 0.05], [0.001, 0, -1]], [[9, 0, 1], [9, 1, 1]]])
def test_what_is_behind_or_beside_the_view_vanishes(ends):
    pixels, kept = clip((np.array(ends, np.float64) @ INTRINSIC.T)[None], WIDTH, HEIGHT)
    assert pixels.shape == (0, 2, 2)
    assert kept.shape == (0,)


def test_clipping_keeps_what_dense_sampling_of_the_segments_sees():
    random = np.random.default_rng(3)
    segments = random.uniform(-1, 1, (400, 2, 3)) * [20, 12, 20] @ INTRINSIC.T
    pixels, kept = clip(segments, WIDTH, HEIGHT)
    assert (pixels >= -1e-6).all()
    assert (pixels <= [WIDTH + 1e-6, HEIGHT + 1e-6]).all()
    steps = np.linspace(0, 1, 4001)[:, None]
    for i, (begin, end) in enumerate(segments):
        points = begin + steps * (end - begin)
        points = points[points[:, 2] >= NEAR]
        seen = points[:, :2] / points[:, 2:]
        seen = seen[((seen >= 0) & (seen <= [WIDTH, HEIGHT])).all(1)]
        if len(seen) < 2:
            assert i not in kept or np.linalg.norm(np.diff(pixels[kept == i][0], axis=0)) < 60
            continue
        ends = pixels[kept == i][0]
        along = (seen - ends[0]) @ (ends[1] - ends[0]) / np.sum((ends[1] - ends[0]) ** 2)
        assert along.min() > -1e-6
        assert along.max() < 1 + 1e-6
        assert np.abs(ends[0] - seen[0]).max() < 60  # nothing is lost: the samples begin where the cut segment does
    assert 20 < len(kept) < 400
