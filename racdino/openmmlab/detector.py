"""RaCFormer as mmcv's runners and mmdet3d's builders know detectors, and its parts under their config names.

Importing it registers them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmcv.utils import Registry
from mmdet.core.bbox.builder import BBOX_ASSIGNERS, BBOX_CODERS
from mmdet.core.bbox.match_costs.builder import MATCH_COST
from mmdet.models.builder import MODELS as MMDET_MODELS
from mmdet.models.detectors import BaseDetector
from mmdet.models.utils.builder import TRANSFORMER
from mmdet3d.core.bbox import LiDARInstance3DBoxes
from mmdet3d.models.builder import MODELS as MMDET3D_MODELS
from torch import Tensor

from racdino import detector
from racdino.detector.batch import Batch, Detections
from racdino.detector.registry import RESOLVERS, TYPES

# Which registry of mmdet a config's part belongs to. ResNet, FPN, the losses, PillarFeatureNet and PointPillarsScatter
# keep meaning mmdet's and mmdet3d's own classes there; inside RaCFormer they mean ours.
_PARTS: Mapping[str, Registry] = {
    "CustomFPN": MMDET_MODELS,
    "LSSViewTransformerBEVDepth_racformer": MMDET_MODELS,
    "RaCFormer_head": MMDET_MODELS,
    "RaCFormerTransformer": TRANSFORMER,
    "NMSFreeCoder": BBOX_CODERS,
    "PolarHungarianAssigner3D": BBOX_ASSIGNERS,
    "BBox3DL1Cost": MATCH_COST,
    "ThetaL1Cost": MATCH_COST,
}


class RaCFormer(detector.RaCFormer):
    """The detector on collated, scattered data of mmdet3d's pipelines; see racdino.detector.RaCFormer for its keys."""

    _parse_losses = BaseDetector._parse_losses

    @property
    def fp16_enabled(self) -> bool:
        """What mmcv's Fp16OptimizerHook sets: the image branch in half precision."""
        return self.image_precision == torch.float16

    @fp16_enabled.setter
    def fp16_enabled(self, enabled: bool) -> None:
        self.image_precision = torch.float16 if enabled else None

    def init_weights(self) -> None:
        """Initialise what mmdet's classes among the parts leave to this call; ours are initialised when built."""
        for part in self.children():
            if hasattr(part, "init_weights"):
                part.init_weights()  # type: ignore[operator]

    def forward(self, return_loss: bool = True, rescale: bool = False, **data: Any) -> Any:
        """Losses by name, or of each sample ``dict(pts_bbox=dict(boxes_3d, scores_3d, labels_3d))`` on the CPU.

        In testing each value may be in a list of its own, as MultiScaleFlipAug3D leaves it. ``rescale`` is what mmdet's
        test loops pass, and means nothing for boxes in metres.
        """
        if return_loss:
            return self.loss(batch_from_mmcv(**data))
        found = self.detect(batch_from_mmcv(**_of_one_augmentation(data)))
        return [{"pts_bbox": to_mmdet3d(detections)} for detections in found]

    def train_step(self, data: Mapping[str, Any], optimizer: Any) -> dict[str, Any]:
        """``loss`` to minimise, ``log_vars`` (means over the processes) and ``num_samples`` of this process."""
        loss, log_vars = self._parse_losses(self(**data))
        return {"loss": loss, "log_vars": log_vars, "num_samples": len(data["img_metas"])}

    def val_step(self, data: Mapping[str, Any], optimizer: Any = None) -> dict[str, Any]:
        """As `train_step`; the caller decides on mode and gradients."""
        return self.train_step(data, optimizer)


def batch_from_mmcv(
    img: Tensor,
    img_metas: Sequence[Mapping[str, Any]],
    radar_points: Sequence[Sequence[Any]],
    radar_depth: Tensor,
    radar_rcs: Tensor,
    gt_depth: Tensor | None = None,
    gt_bboxes_3d: Sequence[Any] | None = None,
    gt_labels_3d: Sequence[Tensor] | None = None,
) -> Batch:
    """What upstream's pipelines collect, for B samples of T frames and N cameras, as a Batch on the images' device.

    Args:
        img: (B, T*N, 3, H, W). img_metas: per sample, with ``lidar2img`` and ``img_timestamp`` of its T*N images, and
            ``sample_key`` if its randomness is keyed. radar_points: T times B tensors (n, 7).
        radar_depth, radar_rcs: (B, T*N, H, W). gt_depth: (B, N, H, W).
        gt_bboxes_3d, gt_labels_3d: LiDARInstance3DBoxes with velocities, and labels, per sample.
    """
    device = img.device
    keys = [meta["sample_key"] for meta in img_metas if "sample_key" in meta]
    boxes = None
    if gt_bboxes_3d is not None:
        boxes = [sample.tensor.to(device) for sample in gt_bboxes_3d]
        if any(rows.shape[1] != 9 for rows in boxes):
            raise ValueError("gt_bboxes_3d has boxes without velocity; the data set needs with_velocity=True.")
    return Batch(
        img=img,
        lidar2img=torch.from_numpy(np.array([meta["lidar2img"] for meta in img_metas], np.float32)).to(device),
        img_timestamp=torch.from_numpy(np.array([meta["img_timestamp"] for meta in img_metas], np.float64)).to(device),
        radar_points=[
            [getattr(points, "tensor", points).to(device) for points in frames]
            for frames in zip(*radar_points, strict=True)
        ],
        radar_depth=radar_depth,
        radar_rcs=radar_rcs,
        gt_depth=gt_depth,
        gt_boxes=boxes,
        gt_labels=None if gt_labels_3d is None else [labels.to(device) for labels in gt_labels_3d],
        sample_keys=tuple(keys) or None,
    )


def to_mmdet3d(detections: Detections) -> dict[str, Any]:
    """One sample's detections as mmdet3d's data sets evaluate them."""
    return {
        "boxes_3d": LiDARInstance3DBoxes(detections.boxes.detach().cpu(), box_dim=9),
        "scores_3d": detections.scores.detach().cpu(),
        "labels_3d": detections.labels.cpu(),
    }


def register_detector() -> None:
    """Make the detector and its parts known to mmdet, and mmdet's classes known to the detector; again is fine.

    Raises:
        KeyError: another class has one of the names; the message names both.
    """
    _register(MMDET_MODELS, "RaCFormer", RaCFormer)
    for name, registry in _PARTS.items():
        _register(registry, name, TYPES[name])
    if _of_mmdet not in RESOLVERS:
        RESOLVERS.append(_of_mmdet)


def _of_mmdet(name: str) -> Callable[..., Any] | None:
    return MMDET_MODELS.get(name) or MMDET3D_MODELS.get(name)


def _register(registry: Registry, name: str, cls: Any) -> None:
    holder = registry.module_dict.get(name)
    if holder is cls:
        return
    if holder is not None:
        raise KeyError(
            f"{name} is already registered in mmdet's {registry.name} by {holder.__module__}, a second class beside "
            f"{cls.__module__}: remove one of them from custom_imports."
        )
    registry.register_module(name=name, module=cls)


def _of_one_augmentation(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Data out of MultiScaleFlipAug3D, whose every value is a list with one entry per test-time augmentation."""
    if not isinstance(data["img"], (list, tuple)):
        return data
    if len(data["img"]) != 1:
        raise ValueError(f"The data has {len(data['img'])} test-time augmentations; RaCFormer takes one.")
    return {key: value[0] for key, value in data.items()}


register_detector()
