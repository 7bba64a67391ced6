"""The plain pipeline that benchmarks/loading.py measures: each step as the specification has it, without cleverness.

Images are decoded whole by OpenCV and resized by its bilinear filter (upstream's, Pillow's bicubic, is slower), every
radar file is read by the devkit each time it is needed, projections and maps are made camera by camera.
"""

from __future__ import annotations

from itertools import islice

import cv2
import numpy as np
import torch
from mmcv.parallel import DataContainer
from mmdet3d.datasets.builder import PIPELINES
from nuscenes.utils.data_classes import RadarPointCloud

from racdino.data.augmentation import image_transform
from racdino.data.history import key_moment
from racdino.data.images import ImageFile
from racdino.data.poses import lidar_from_global, rigid
from racdino.data.radar import sweeps_at
from racdino.data.tables import RADARS
from racdino.openmmlab.pipelines import (
    LoadMultiViewImageFromMultiSweeps,
    LoadradarpointsFromMultiSweeps,
    RaCFormatBundle3D,
    RadarPointToMultiViewDepth,
    RandomTransformImage,
)


@PIPELINES.register_module()
class PlainImagesOfSweeps(LoadMultiViewImageFromMultiSweeps):
    def __call__(self, results):
        current = results["img"]
        results["img"] = [ImageFile(path) for path in results["img_filename"]]
        results["filename"] = list(results["filename"])
        results = super().__call__(results)
        results["img"] = current + [cv2.imread(image.path) for image in results["img"][len(current) :]]
        return results


@PIPELINES.register_module()
class PlainTransformImage(RandomTransformImage):
    def __call__(self, results):
        transform = image_transform(self.conf, results["sample"].random if self.training else None)
        height, width = transform.size
        for index, image in enumerate(results["img"]):
            resized = cv2.resize(image, transform.resized[::-1])
            part = np.zeros((height, width, 3), np.uint8)
            kept = resized[transform.top : transform.top + height, transform.left : transform.left + width]
            part[:, : kept.shape[1]] = kept
            results["img"][index] = part[:, ::-1] if transform.flip else part
            for key in ("lidar2img", "intrinsics"):
                results[key][index] = transform.matrix() @ results[key][index]
        results["ori_shape"] = [(*transform.source, 3)] * len(results["img"])
        results["img_shape"] = results["pad_shape"] = [(*transform.size, 3)] * len(results["img"])
        return results


def accumulate(sample, moment, num_sweeps):
    parts = [np.zeros((0, 7))]
    for channel in RADARS:
        for history, k in islice(sweeps_at(moment, sample.infos, channel), num_sweeps):
            cloud = RadarPointCloud.from_file(sample.locate(history["filename"][k]))
            cloud.remove_close(1.0)
            pose = (
                lidar_from_global(sample.info)
                @ rigid(history["ego2global_rotation"][k], history["ego2global_translation"][k])
                @ rigid(history["sensor2ego_rotation"], history["sensor2ego_translation"])
            )
            cloud.transform(pose)
            velocities = cloud.points[8:10].T @ pose[:2, :2].T
            lag = 1e-6 * (sample.info["timestamp"] - int(history["timestamp"][k]))
            columns = [cloud.points[:2].T, np.zeros((cloud.nbr_points(), 1)), cloud.points[5:6].T, velocities]
            parts.append(np.concatenate([*columns, np.full((cloud.nbr_points(), 1), lag)], axis=1))
    return np.concatenate(parts).astype(np.float32)


@PIPELINES.register_module()
class PlainRadarOfSweeps(LoadradarpointsFromMultiSweeps):
    """Both radar steps."""

    def __call__(self, results):
        sample = results["sample"]
        moments = [key_moment(sample.info), *(sample.chosen or self.choose(sample))]
        results["radar_points"] = [accumulate(sample, moment, self.num_aggr_sweeps) for moment in moments]
        return results


def pixels(points, lidar2img, size, limits):
    """Coordinates, depths and other values of one camera's points, the nearest of each pixel, by pixel."""
    projected = np.concatenate([points[:, :3], np.ones((len(points), 1))], 1) @ lidar2img.T
    depth = projected[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v = np.round(projected[:, 0] / depth), np.round(projected[:, 1] / depth)
    kept = (depth >= limits[0]) & (depth < limits[1]) & (u >= 0) & (u < size[1]) & (v >= 0) & (v < size[0])
    u, v, depth, points = u[kept].astype(int), v[kept].astype(int), depth[kept], points[kept]
    order = np.argsort(u + v * size[1] + depth / 100)
    u, v, depth, points = u[order], v[order], depth[order], points[order]
    first = np.ones(len(u), bool)
    first[1:] = (u[1:] != u[:-1]) | (v[1:] != v[:-1])
    return u[first], v[first], depth[first], points[first]


@PIPELINES.register_module()
class PlainLidarDepth(RadarPointToMultiViewDepth):
    def __call__(self, results):
        size = results["img"][0].shape[:2]
        maps = np.zeros((6, *size), np.float32)
        for camera, lidar2img in enumerate(results["lidar2img"][:6]):
            u, v, depth, _ = pixels(results["points"].tensor.numpy(), lidar2img, size, self.limits)
            maps[camera, v, u] = depth
        results["gt_depth"] = maps
        return results


@PIPELINES.register_module()
class PlainRadarDepth(RadarPointToMultiViewDepth):
    def __call__(self, results):
        size = results["img"][0].shape[:2]
        maps = np.zeros((2, len(results["img"]), *size), np.float32)
        for index, lidar2img in enumerate(results["lidar2img"]):
            u, _, depth, points = pixels(results["radar_points"][index // 6], lidar2img, size, self.limits)
            for column, one, rcs in zip(u, depth, points[:, 3], strict=True):
                maps[:, index, :, column] = np.array([[one], [rcs]])
        results["radar_depth"], results["radar_rcs"] = maps
        results["radar_map_height"] = size[0]
        return results


@PIPELINES.register_module()
class PlainFormatBundle3D(RaCFormatBundle3D):
    def __call__(self, results):
        results = super().__call__(results)
        for key in ("img", "radar_depth", "radar_rcs", "gt_depth"):
            results[key] = DataContainer(results[key].data.contiguous(), stack=True)
        return results


PLAIN = {  # our steps' types to these; None: a part of another one
    "LoadMultiViewImageFromMultiSweeps": "PlainImagesOfSweeps",
    "RandomTransformImage": "PlainTransformImage",
    "Loadnuradarpoints": None,
    "LoadradarpointsFromMultiSweeps": "PlainRadarOfSweeps",
    "PointToMultiViewDepth": "PlainLidarDepth",
    "RadarPointToMultiViewDepth": "PlainRadarDepth",
    "RaCFormatBundle3D": "PlainFormatBundle3D",
}


def plain(pipeline):
    """``pipeline`` with the plain steps in place of ours."""
    steps = []
    for step in pipeline:
        name = PLAIN.get(step["type"], step["type"])
        if name is not None:
            changed = {**step, "type": name}
            if "transforms" in step:
                changed["transforms"] = plain(step["transforms"])
            steps.append(changed)
    return steps


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Mean absolute difference of two batches' values."""
    return float((a.double() - b.double()).abs().mean())
