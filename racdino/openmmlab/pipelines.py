"""The steps of RaCFormer's data pipelines, under upstream's names; the work is in ``racdino.data``.

``results["sample"]`` is the ``racdino.data.sample.Sample`` that ``CustomNuScenesDataset_radar`` made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmcv.parallel import DataContainer
from mmdet3d.datasets.builder import PIPELINES
from mmdet3d.datasets.pipelines import DefaultFormatBundle3D

from racdino.data import depth_maps, images
from racdino.data.augmentation import SceneTransform, image_transform
from racdino.data.history import (
    TEST_INTERVAL,
    TRAINING_INTERVAL,
    Moment,
    choose_steps,
    draw_interval,
    key_moment,
)
from racdino.data.poses import inverse_rigid, lidar_from_global
from racdino.data.projections import camera_from_global, intrinsic_4x4, require_finite
from racdino.data.radar import accumulate
from racdino.data.sample import Sample
from racdino.data.tables import CAMERAS

Results = dict[str, Any]


@PIPELINES.register_module()
class LoadMultiViewImageFromFilesLazily:
    """``LoadMultiViewImageFromFiles`` without the reading: ``img`` is a list of ``ImageFile`` until the transform.

    The data set puts it in place of mmdet3d's step where ``RandomTransformImage`` follows.
    """

    def __init__(self, to_float32: bool = False, color_type: str = "color") -> None:
        if to_float32 or color_type != "color":
            raise ValueError(f"Images are uint8 BGR here, not to_float32={to_float32}, color_type={color_type!r}.")

    def __call__(self, results: Results) -> Results:
        results["filename"] = list(results["img_filename"])
        results["img"] = [images.ImageFile(path) for path in results["filename"]]
        return results


class _PastSteps:
    """Chooses the past moments of a sample: with a drawn interval in training, key frames in tests."""

    def __init__(
        self,
        sweeps_num: int,
        test_mode: bool = False,
        train_interval: Sequence[int] = TRAINING_INTERVAL,
        test_interval: int = TEST_INTERVAL,
    ) -> None:
        self.sweeps_num = sweeps_num
        self.test_mode = test_mode
        self.train_interval = (train_interval[0], train_interval[1])
        self.test_interval = test_interval

    def choose(self, sample: Sample) -> list[Moment]:
        """The past moments, newest first; the sample itself where it has no past."""
        interval = self.test_interval
        if not self.test_mode:
            interval = draw_interval(len(sample.past), self.sweeps_num, sample.random, self.train_interval)
        chosen = [sample.past[step] for step in choose_steps(len(sample.past), self.sweeps_num, interval)]
        return chosen or [key_moment(sample.info)] * self.sweeps_num


@PIPELINES.register_module()
class LoadMultiViewImageFromMultiSweeps(_PastSteps):
    """Adds the cameras of ``sweeps_num`` past moments behind the current six: images, projections, times."""

    def __init__(self, sweeps_num: int, color_type: str = "color", **interval: Any) -> None:
        super().__init__(sweeps_num, **interval)
        if color_type != "color":
            raise ValueError(f"Images are BGR here, not color_type={color_type!r}.")

    def __call__(self, results: Results) -> Results:
        sample: Sample = results["sample"]
        sample.chosen = self.choose(sample)
        T_global_from_lidar = inverse_rigid(lidar_from_global(sample.info))
        lazy = all(isinstance(image, images.ImageFile) for image in results["img"])
        for moment in sample.chosen:
            for channel in CAMERAS:
                camera = moment.sensors[channel]
                path = sample.locate(camera["data_path"])
                intrinsic = intrinsic_4x4(camera)
                results["filename"].append(path)
                results["img"].append(images.ImageFile(path) if lazy else images.decode(path))
                projection = intrinsic @ camera_from_global(camera) @ T_global_from_lidar
                results["lidar2img"].append(require_finite(projection, path))
                results["intrinsics"].append(intrinsic)
                results["img_timestamp"].append(camera["timestamp"] / 1e6)
        return results


@PIPELINES.register_module()
class RandomTransformImage:
    """Resizes, crops and flips all images of a sample alike; ``lidar2img`` and ``intrinsics`` follow.

    Args:
        training: draw the transform; otherwise the one of tests.
        legacy_decode: decode at full size and resize with Pillow, as upstream does. Without it images are decoded at
            half size or less and resized by OpenCV: faster, and other pixels in the last bits.
    """

    def __init__(self, ida_aug_conf: Mapping[str, Any], training: bool = True, legacy_decode: bool = False) -> None:
        self.conf = ida_aug_conf
        self.training = training
        self.legacy_decode = legacy_decode

    def __call__(self, results: Results) -> Results:
        transform = image_transform(self.conf, results["sample"].random if self.training else None)
        results["img"] = images.Pictures(
            images.load(image.path, transform, self.legacy_decode)
            if isinstance(image, images.ImageFile)
            else images.apply(image, transform, self.legacy_decode)
            for image in results["img"]
        )
        matrix = transform.matrix()
        for key in ("lidar2img", "intrinsics"):
            results[key] = [matrix @ projection for projection in results[key]]
        count = len(results["img"])
        results["ori_shape"] = [(*transform.source, 3)] * count
        results["img_shape"] = results["pad_shape"] = [(*transform.size, 3)] * count
        return results


@PIPELINES.register_module()
class Loadnuradarpoints:
    """``radar_points``: a list whose first entry is the current frame, five radars of ``num_sweeps`` sweeps each.

    Args:
        legacy_radar_velocity: see ``racdino.data.radar.accumulate``.
    """

    def __init__(
        self,
        coord_type: str = "RADAR",
        num_sweeps: int = 5,
        file_client_args: Mapping[str, Any] | None = None,
        legacy_radar_velocity: bool = False,
    ) -> None:
        if coord_type != "RADAR" or (file_client_args or {}).get("backend", "disk") != "disk":
            raise ValueError(f"Radar points are read from the disk, not coord_type={coord_type!r}, {file_client_args}.")
        self.num_sweeps = num_sweeps
        self.legacy_radar_velocity = legacy_radar_velocity

    def __call__(self, results: Results) -> Results:
        sample = results["sample"]
        flags = {"legacy_radar_velocity": self.legacy_radar_velocity}
        results["radar_points"] = [_radar(sample, key_moment(sample.info), self.num_sweeps, **flags)]
        return results


@PIPELINES.register_module()
class LoadradarpointsFromMultiSweeps(_PastSteps):
    """Adds ``sweeps_num`` past frames to ``radar_points``, all in the current LiDAR frame.

    They are the moments that the image loader chose; a pipeline without it draws its own.

    Args:
        legacy_independent_intervals: upstream's: draw an interval of its own although the image loader drew one.
        legacy_radar_history, legacy_radar_velocity: see ``racdino.data.radar.accumulate``.
    """

    def __init__(
        self,
        sweeps_num: int,
        num_aggr_sweeps: int = 5,
        legacy_independent_intervals: bool = False,
        legacy_radar_history: bool = False,
        legacy_radar_velocity: bool = False,
        **interval: Any,
    ) -> None:
        super().__init__(sweeps_num, **interval)
        self.num_aggr_sweeps = num_aggr_sweeps
        self.legacy_independent_intervals = legacy_independent_intervals
        self.flags = {
            "legacy_radar_history": legacy_radar_history,
            "legacy_radar_velocity": legacy_radar_velocity,
        }

    def __call__(self, results: Results) -> Results:
        sample: Sample = results["sample"]
        shared = None if self.legacy_independent_intervals else sample.chosen
        for moment in shared or self.choose(sample):
            results["radar_points"].append(_radar(sample, moment, self.num_aggr_sweeps, **self.flags))
        return results


@PIPELINES.register_module()
class RaCGlobalRotScaleTransImage:
    """Rotates and scales the scene: boxes, LiDAR and radar points, and the inverse inside ``lidar2img``.

    Args:
        rot_range: radians, counter-clockwise. scale_ratio_range: factors.
        legacy_radar_velocity: upstream's: leave the radar's vx, vy as they were.
    """

    def __init__(
        self,
        rot_range: Sequence[float],
        scale_ratio_range: Sequence[float],
        legacy_radar_velocity: bool = False,
    ) -> None:
        self.rot_range = rot_range
        self.scale_ratio_range = scale_ratio_range
        self.legacy_radar_velocity = legacy_radar_velocity

    def __call__(self, results: Results) -> Results:
        scene = SceneTransform.draw(self.rot_range, self.scale_ratio_range, results["sample"].random)
        inverse = np.linalg.inv(scene.matrix())
        results["lidar2img"] = [projection @ inverse for projection in results["lidar2img"]]
        results["gt_bboxes_3d"].rotate(scene.angle)
        results["gt_bboxes_3d"].scale(scene.scale)
        if "points" in results:
            points = results["points"]
            points.tensor = torch.from_numpy(scene.points(points.tensor.numpy()))
        results["radar_points"] = [
            scene.radar(points, self.legacy_radar_velocity) for points in results["radar_points"]
        ]
        return results


class _DepthMap:
    def __init__(self, grid_config: Mapping[str, Any], downsample: int = 1) -> None:
        self.limits = (grid_config["depth"][0], grid_config["depth"][1])
        self.downsample = downsample


@PIPELINES.register_module()
class PointToMultiViewDepth(_DepthMap):
    """``gt_depth`` (N, H, W): the LiDAR's depth in the current images, 0 where there is none."""

    def __call__(self, results: Results) -> Results:
        lidar2img = np.stack(results["lidar2img"][: len(CAMERAS)])
        size = results["img"][0].shape[:2]
        points = results["points"].tensor.numpy()
        results["gt_depth"] = depth_maps.lidar_depth(points, lidar2img, size, self.limits, self.downsample)
        return results


@PIPELINES.register_module()
class RadarPointToMultiViewDepth(_DepthMap):
    """``radar_depth``, ``radar_rcs``: see ``racdino.data.depth_maps.radar_columns``.

    All rows of such a map are the same, so it stays (T*N, 1, W) until ``RaCFormatBundle3D`` repeats the row.
    """

    def __init__(self, grid_config: Mapping[str, Any], downsample: int = 1, test_mode: bool = False) -> None:
        super().__init__(grid_config, downsample)  # test_mode is upstream's; maps are the same in both

    def __call__(self, results: Results) -> Results:
        size = results["img"][0].shape[:2]
        results["radar_map_height"] = size[0] // self.downsample
        maps = []
        for frame, points in enumerate(results["radar_points"]):
            lidar2img = np.stack(results["lidar2img"][frame * len(CAMERAS) : (frame + 1) * len(CAMERAS)])
            maps.append(depth_maps.radar_columns(points, lidar2img, size, self.limits, self.downsample))
        depth, rcs = (np.concatenate(columns)[:, None] for columns in zip(*maps, strict=True))
        results["radar_depth"], results["radar_rcs"] = depth, rcs
        return results


@PIPELINES.register_module()
class RaCFormatBundle3D(DefaultFormatBundle3D):
    """mmdet3d's bundle, and this model's: ``radar_points`` is a list of T containers, depth maps are stacked."""

    def __call__(self, results: Results) -> Results:
        results = super().__call__(results)
        # Images of a data set are all of one size: without pad_dims collating them copies once, not twice.
        results["img"] = DataContainer(results["img"].data, stack=True, pad_dims=None)
        for key in ("radar_depth", "radar_rcs"):
            if key in results:
                row = torch.from_numpy(results[key])
                results[key] = _stacked(row.expand(-1, results["radar_map_height"], -1))
        if "gt_depth" in results:
            results["gt_depth"] = _stacked(torch.from_numpy(results["gt_depth"]))
        if "radar_points" in results:
            results["radar_points"] = [DataContainer(torch.from_numpy(points)) for points in results["radar_points"]]
        return results


def _stacked(tensor: torch.Tensor) -> DataContainer:
    return DataContainer(tensor, stack=True, pad_dims=None)


def _radar(sample: Sample, moment: Moment, num_sweeps: int, **flags: bool) -> np.ndarray:
    points, impossible = accumulate(sample.info, moment, sample.infos, sample.locate, num_sweeps, **flags)
    sample.left_out["radar points"] += impossible
    sample.left_out["frames without radar points"] += len(points) == 0
    return points
