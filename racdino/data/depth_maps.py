"""Depths in the image planes: LiDAR points as pixels, radar points as columns."""

from __future__ import annotations

import numpy as np


def project(points: np.ndarray, lidar2img: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixel coordinates u, v and depths, each (cameras, n), of (n, 3) points through (cameras, 4, 4) projections."""
    homogeneous = lidar2img[:, :3, :3] @ points.T.astype(lidar2img.dtype) + lidar2img[:, :3, 3:]
    depth = homogeneous[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        return homogeneous[:, 0] / depth, homogeneous[:, 1] / depth, depth


def lidar_depth(
    points: np.ndarray, lidar2img: np.ndarray, size: tuple[int, int], limits: tuple[float, float], downsample: int = 1
) -> np.ndarray:
    """The depth of the nearest LiDAR point in each pixel.

    Args:
        points: (n, 3 or more) x, y, z in metres. lidar2img: (N, 4, 4). size: height, width of the images.
        limits: metres; depths in [near, far) count. downsample: the map's pixels are this many image pixels wide.
    Returns:
        (N, height // downsample, width // downsample) float32 metres, 0 where there is no point.
    """
    camera, row, column, depth, _ = _inside(points, lidar2img, size, limits, downsample)
    height, width = size[0] // downsample, size[1] // downsample
    depths = np.zeros(len(lidar2img) * height * width, np.float32)
    far_to_near = np.argsort(-depth, kind="stable")  # of assignments to one place the last stays
    depths[((camera * height + row) * width + column)[far_to_near]] = depth[far_to_near]
    return depths.reshape(len(lidar2img), height, width)


def radar_columns(
    points: np.ndarray, lidar2img: np.ndarray, size: tuple[int, int], limits: tuple[float, float], downsample: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Depth and RCS of the radar point that each image column shows.

    Radar measures no height, so a point fills its column from top to bottom. Where several points share a column, the
    one that is lowest in the image is shown, and of those in one pixel the nearest.

    Args: as ``lidar_depth``; points are (n, 7) as ``racdino.data.radar.accumulate`` returns.
    Returns:
        depth in metres and RCS in dBsm, each (N, width // downsample) float32, 0 where there is no point.
    """
    camera, row, column, depth, index = _inside(points, lidar2img, size, limits, downsample)
    width = size[1] // downsample
    order = np.lexsort((-depth, row))  # the shown point is assigned last
    place = (camera * width + column)[order]
    depths, rcs = np.zeros((2, len(lidar2img) * width), np.float32)
    depths[place] = depth[order]
    rcs[place] = points[index[order], 3]
    return depths.reshape(-1, width), rcs.reshape(-1, width)


def _inside(
    points: np.ndarray, lidar2img: np.ndarray, size: tuple[int, int], limits: tuple[float, float], downsample: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Camera, row, column, depth and point index of every projection that lands in an image within ``limits``."""
    u, v, depth = project(points[:, :3], lidar2img)
    camera, index = np.nonzero((depth >= limits[0]) & (depth < limits[1]))
    column, row = np.round(u[camera, index] / downsample), np.round(v[camera, index] / downsample)
    inside = (column >= 0) & (column < size[1] // downsample) & (row >= 0) & (row < size[0] // downsample)
    camera, index = camera[inside], index[inside]
    return camera, row[inside].astype(np.intp), column[inside].astype(np.intp), depth[camera, index], index
