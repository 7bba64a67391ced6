"""RaCFormer: 3D boxes with velocities out of surround cameras and radars, over several frames.

Source: Chu et al. 2025, RaCFormer, arXiv:2412.12725.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from racdino.detector import fpn, head, resnet, view_transformer  # noqa: F401  (register what configs name)
from racdino.detector.batch import Batch, Detections
from racdino.detector.beside import Beside
from racdino.detector.image_branch import ImageBranch, build_image_modules, evaluated
from racdino.detector.image_preprocessing import ImagePreprocessing
from racdino.detector.radar_encoder import encode_radar, radar_bev_conv
from racdino.detector.randomness import SampleRandom
from racdino.detector.registry import build, register
from racdino.detector.view_transformer import Geometry
from racdino.detector.voxelisation import Pillars, Voxelisation

Config = Mapping[str, Any]


@register("RaCFormer")
class RaCFormer(nn.Module):
    """The detector. The keys are the config's, and each part's are described where that part is.

    Args:
        data_aug: ``img_norm_cfg``, ``img_pad_cfg`` and ``img_color_aug`` of ImagePreprocessing.
        img_backbone, img_neck, img_lss_neck, img_lss_view_transformer: the image branch. Without img_lss_neck, or with
            ``num_lss_fpn`` equal to the neck's ``num_outs``, the view transformer reads the neck's own map of its size.
        radar_voxel_layer, radar_voxel_encoder, radar_middle_encoder: the radar branch.
        pts_bbox_head, train_cfg: the decoder with its losses; ``train_cfg["pts"]`` holds the assigner.
        num_lss_fpn: how many of the backbone's last maps img_lss_neck takes.
        dep_downsample: size of the depth maps over the view transformer's; the latter's ``downsample``.
        stop_prev_grad: if positive, frames from this number on give no gradient in the image branch, to save memory.
        dinov2_adapter: DINOv2 beside the backbone (see AdapterFusion), or None.
        use_grid_mask: GridMask in training.
        legacy_radar_layout: hand the radar maps to the cameras in upstream's order, which mixes frames and cameras; the
            released weights were trained with it.
        pre_process, pretrained, init_cfg, test_cfg: accepted as configs write them; all but test_cfg must be None.

    Attributes:
        image_precision: the dtype of the image branch under autocast (float16 or bfloat16), or None. The rest is
            float32.
    """

    img_backbone: nn.Module
    img_neck: nn.Module

    def __init__(
        self,
        data_aug: Config,
        img_backbone: Config,
        img_neck: Config,
        img_lss_view_transformer: Config,
        radar_voxel_layer: Config,
        radar_voxel_encoder: Config,
        radar_middle_encoder: Config,
        pts_bbox_head: Config,
        img_lss_neck: Config | None = None,
        num_lss_fpn: int = 2,
        dep_downsample: int = 16,
        stop_prev_grad: int = 0,
        dinov2_adapter: Config | None = None,
        train_cfg: Config | None = None,
        test_cfg: Config | None = None,
        pre_process: None = None,
        pretrained: None = None,
        init_cfg: None = None,
        use_grid_mask: bool = True,
        legacy_radar_layout: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("pre_process", pre_process), ("pretrained", pretrained), ("init_cfg", init_cfg)):
            if value is not None:
                raise ValueError(f"RaCFormer has {name}={value!r}; it must be None (load_from names weights).")
        shared = num_lss_fpn == img_neck.get("num_outs")
        modules = build_image_modules(img_backbone, img_neck, None if shared else img_lss_neck, dinov2_adapter)
        for name, module in modules.items():
            self.add_module(name, module)
        self.img_lss_view_transformer = build(img_lss_view_transformer)
        if self.img_lss_view_transformer.downsample != dep_downsample:
            raise ValueError(
                f"dep_downsample={dep_downsample} must equal the view transformer's downsample="
                f"{self.img_lss_view_transformer.downsample}."
            )
        self.radar_voxel_layer = Voxelisation(**radar_voxel_layer)
        self.radar_voxel_encoder = build(radar_voxel_encoder)
        self.radar_middle_encoder = build(radar_middle_encoder)
        self.radar_bev_conv = radar_bev_conv(
            self.radar_middle_encoder.in_channels, self.img_lss_view_transformer.out_channels
        )
        self.pts_bbox_head = build(pts_bbox_head, train_cfg=(train_cfg or {}).get("pts"))
        self.preprocess = ImagePreprocessing(**data_aug, use_grid_mask=use_grid_mask)
        self.num_lss_fpn = num_lss_fpn
        self.stop_prev_grad = stop_prev_grad
        self.legacy_radar_layout = legacy_radar_layout
        self.image_precision: torch.dtype | None = None

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of a batch with ground truth, by upstream's names; their sum is to be minimised.

        Raises:
            ValueError: the batch has no ground truth.
        """
        if batch.gt_boxes is None or batch.gt_labels is None or batch.gt_depth is None:
            raise ValueError("A training batch needs gt_boxes, gt_labels and gt_depth; one of them is missing.")
        samples = len(batch.img)
        random = SampleRandom.unkeyed(samples) if batch.sample_keys is None else SampleRandom(batch.sample_keys)
        output, depth_logits = self._decode(batch, random, (batch.gt_boxes, batch.gt_labels))
        depth_loss = self.img_lss_view_transformer.depth_loss(depth_logits, self.preprocess.pad(batch.gt_depth))
        losses = self.pts_bbox_head.loss(output, batch.gt_boxes, batch.gt_labels)  # waits for the decoder
        return {**losses, "loss_depth": depth_loss}

    @torch.no_grad()
    def detect(self, batch: Batch) -> list[Detections]:
        """The boxes of each sample, best first."""
        output, _ = self._decode(batch, None, None)
        return self.pts_bbox_head.decode(output)

    def _decode(
        self, batch: Batch, random: SampleRandom | None, targets: tuple[list[Tensor], list[Tensor]] | None
    ) -> tuple[Any, Tensor]:
        images = self.preprocess(batch.img, random)
        queries = self.pts_bbox_head.queries(len(images), targets, random)
        beside = Beside(images.device)
        grad_images = self.stop_prev_grad * batch.num_cameras
        extract = self._image_branch()
        if self.training and 0 < grad_images < images.shape[1]:
            features = extract.with_gradient_for(images, grad_images, self.image_precision)
        else:
            features = extract(images, self.image_precision)
        with beside.queue(), torch.no_grad():
            current, past = self._geometries(batch)
            pillars = self.radar_voxel_layer([cloud for frames in batch.radar_points for cloud in frames])
        radar_bev = self._radar_bev(batch, pillars)
        lss_bev, depth_logits = self._lss_bev(batch, features.lss, current, past, random)
        output = self.pts_bbox_head(
            queries,
            features.levels,
            lss_bev,
            radar_bev,
            batch.lidar2img,
            batch.img_timestamp,
            tuple(images.shape[-2:]),
        )
        return output, depth_logits

    def _geometries(self, batch: Batch) -> tuple[Geometry, Geometry | None]:
        """Of the current frames' cameras, and of the past ones', if there are any."""
        lidar2img = by_frame(batch.lidar2img, batch.num_frames)
        geometry = self.img_lss_view_transformer.geometry
        past = geometry(lidar2img[:, 1:].flatten(0, 1)) if batch.num_frames > 1 else None
        return geometry(lidar2img[:, 0]), past

    def _image_branch(self) -> ImageBranch:
        return ImageBranch(
            self.img_backbone,
            self.img_neck,
            getattr(self, "img_lss_neck", None),
            self.num_lss_fpn,
            tuple(self.img_lss_view_transformer.frustum.shape[1:3]),
            getattr(self, "dinov2_adapter", None),
            getattr(self, "adapter_fusion", None),
        )

    def _lss_bev(
        self, batch: Batch, features: Tensor, current: Geometry, past: Geometry | None, random: SampleRandom | None
    ) -> tuple[Tensor, Tensor]:
        """(B, T, C, Y, X) of all frames, and the current frame's depth logits. Past frames give no gradient."""
        frames = batch.num_frames
        features, depth, rcs = (
            by_frame(features, frames),
            by_frame(self.preprocess.pad(batch.radar_depth), frames, self.legacy_radar_layout),
            by_frame(self.preprocess.pad(batch.radar_rcs), frames, self.legacy_radar_layout),
        )
        bev, logits = self.img_lss_view_transformer(features[:, 0], current, depth[:, 0], rcs[:, 0], random)
        if past is None:
            return bev[:, None], logits
        with evaluated(self.img_lss_view_transformer):
            older, older_depth, older_rcs = (x[:, 1:].flatten(0, 1) for x in (features, depth, rcs))
            of_past, _ = self.img_lss_view_transformer(older, past, older_depth, older_rcs)
        return torch.cat([bev[:, None], of_past.unflatten(0, (len(features), frames - 1))], 1), logits

    def _radar_bev(self, batch: Batch, pillars: Pillars) -> Tensor:
        """(B, T, C, Y, X)."""
        samples, frames = len(batch.img), batch.num_frames
        bev = encode_radar(
            pillars, samples * frames, self.radar_voxel_encoder, self.radar_middle_encoder, self.radar_bev_conv
        )
        return bev.unflatten(0, (samples, frames))


def by_frame(x: Tensor, frames: int, legacy_layout: bool = False) -> Tensor:
    """(B, T*N, ...), frame-major, to (B, T, N, ...).

    ``legacy_layout`` reads it as camera-major, as upstream does with radar maps: camera n of frame t then gets what
    lies at n*T + t.
    """
    if legacy_layout:
        return x.unflatten(1, (-1, frames)).transpose(1, 2)
    return x.unflatten(1, (frames, -1))
