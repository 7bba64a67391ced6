"""Depth maps and radar columns equal naive float64 loops over points."""

import numpy as np
import pytest

from racdino.data.depth_maps import lidar_depth, radar_columns

LIMITS = (1.0, 65.0)
SIZE = (40, 60)


def cameras(count=6, seed=0):
    random = np.random.default_rng(seed)
    matrices = []
    for n in range(count):
        yaw = 2 * np.pi * n / count
        forward, right = np.array([np.cos(yaw), np.sin(yaw), 0]), np.array([np.sin(yaw), -np.cos(yaw), 0])
        view = np.eye(4)
        view[:3, :3] = np.stack([right, [0, 0, -1], forward])
        view[:3, 3] = random.normal(0, 0.3, 3)
        matrices.append(np.array([[45.0, 0, 30, 0], [0, 45, 18, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ view)
    return np.stack(matrices)


def points(count, seed=1):
    random = np.random.default_rng(seed)
    return np.concatenate([random.uniform(-70, 70, (count, 2)), random.uniform(-2, 2, (count, 1))], 1)


def pixels(cloud, matrix, downsample):
    """(row, column, depth, index) of every point in the image, one by one."""
    for index, point in enumerate(cloud[:, :3]):
        u, v, depth, _ = matrix @ [*point, 1.0]
        if LIMITS[0] <= depth < LIMITS[1]:
            column, row = round(u / depth / downsample), round(v / depth / downsample)
            if 0 <= column < SIZE[1] // downsample and 0 <= row < SIZE[0] // downsample:
                yield row, column, depth, index


@pytest.mark.parametrize("downsample", [1, 4])
def test_the_nearest_lidar_point_of_each_pixel_is_its_depth(downsample):
    cloud, matrices = points(4000), cameras()
    expected = np.zeros((6, SIZE[0] // downsample, SIZE[1] // downsample))
    for n, matrix in enumerate(matrices):
        for row, column, depth, _ in pixels(cloud, matrix, downsample):
            if expected[n, row, column] == 0 or depth < expected[n, row, column]:
                expected[n, row, column] = depth
    ours = lidar_depth(cloud, matrices, SIZE, LIMITS, downsample)
    assert ours.dtype == np.float32
    assert (expected > 0).sum() > 100
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


def test_a_column_shows_the_lowest_radar_point_and_the_nearest_of_one_pixel():
    cloud = points(900)
    cloud[:, 2] = 0
    cloud = np.concatenate([cloud, np.random.default_rng(2).uniform(-5, 30, (900, 4))], 1)
    matrices = cameras()
    matrices[:, 1] *= 0.97  # an inclined view, so that points at one height differ in row
    depths, rcs = np.zeros((2, 6, SIZE[1]))
    for n, matrix in enumerate(matrices):
        shown = {}
        for row, column, depth, index in pixels(cloud, matrix, 1):
            if column not in shown or (row, -depth) > shown[column][:2]:
                shown[column] = (row, -depth, index)
        for column, (_, depth, index) in shown.items():
            depths[n, column], rcs[n, column] = -depth, cloud[index, 3]
    ours = radar_columns(cloud, matrices, SIZE, LIMITS)
    assert (depths > 0).sum() > 100
    np.testing.assert_allclose(ours[0], depths, rtol=1e-6)
    np.testing.assert_allclose(ours[1], rcs, rtol=1e-6)


def test_frames_without_points_give_empty_maps():
    depths, rcs = radar_columns(np.zeros((0, 7)), cameras(), SIZE, LIMITS)
    assert depths.shape == rcs.shape == (6, SIZE[1])
    assert not depths.any()
    assert not lidar_depth(np.zeros((0, 5)), cameras(), SIZE, LIMITS).any()


def test_points_that_are_not_finite_land_nowhere():
    assert not lidar_depth(np.full((3, 5), np.nan), cameras(), SIZE, LIMITS).any()
