"""A detector with every part of the full one, small enough for tests, and batches for it."""

from __future__ import annotations

import math
from typing import Any

import torch

from racdino.detector.batch import Batch

HEIGHT, WIDTH, FRAMES, CAMERAS, DIM = 64, 96, 2, 6, 32
RANGE = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
ADAPTER = {
    "type": "DinoAdapter",
    "num_heads": 2,
    "embed_dim": 24,
    "depth": 4,
    "pretrain_size": 56,
    "pretrained_vit": False,
    "conv_inplane": 8,
    "deform_num_heads": 4,
    "interaction_indexes": [[0, 0], [1, 1], [2, 2], [3, 3]],
}


def small_config(frames: int = FRAMES, **changes: Any) -> dict[str, Any]:
    """The ``model`` of the baseline config with other sizes, and keys replaced by ``changes``."""
    grid = {
        "x": [-51.2, 51.2, 3.2],
        "y": [-51.2, 51.2, 3.2],
        "z": [-5, 3, 8],
        "depth": [1.0, 65.0, 16.0],
        "rcs": [-64, 64, 64],
    }
    norm = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "to_rgb": True}
    model = {
        "type": "RaCFormer",
        "data_aug": {"img_color_aug": True, "img_norm_cfg": norm, "img_pad_cfg": {"size_divisor": 32}},
        "stop_prev_grad": 0,
        "img_backbone": {
            "type": "ResNet",
            "depth": 18,
            "num_stages": 4,
            "out_indices": (0, 1, 2, 3),
            "frozen_stages": 1,
            "norm_cfg": {"type": "BN2d", "requires_grad": True},
            "norm_eval": True,
            "style": "pytorch",
            "with_cp": True,
        },
        "img_neck": {"type": "FPN", "in_channels": [64, 128, 256, 512], "out_channels": DIM, "num_outs": 4},
        "img_lss_neck": {
            "type": "CustomFPN",
            "in_channels": [256, 512],
            "out_channels": DIM,
            "num_outs": 1,
            "start_level": 0,
            "out_ids": [0],
        },
        "img_lss_view_transformer": {
            "type": "LSSViewTransformerBEVDepth_racformer",
            "grid_config": grid,
            "input_size": (HEIGHT, WIDTH),
            "in_channels": DIM,
            "out_channels": DIM,
            "depthnet_cfg": {"use_dcn": False},
            "downsample": 16,
            "loss_depth_weight": 2.0,
        },
        "num_lss_fpn": 2,
        "dep_downsample": 16,
        "pre_process": None,
        "radar_voxel_layer": {
            "max_num_points": 10,
            "max_voxels": (30000, 40000),
            "voxel_size": [3.2, 3.2, 8],
            "point_cloud_range": RANGE,
            "deterministic": False,
        },
        "radar_voxel_encoder": {
            "type": "PillarFeatureNet",
            "in_channels": 7,
            "feat_channels": [16],
            "with_distance": False,
            "voxel_size": [3.2, 3.2, 8],
            "norm_cfg": {"type": "BN1d", "eps": 1e-3, "momentum": 0.01},
            "legacy": False,
        },
        "radar_middle_encoder": {"type": "PointPillarsScatter", "in_channels": 16, "output_shape": (32, 32)},
        "pts_bbox_head": {
            "type": "RaCFormer_head",
            "num_classes": 10,
            "in_channels": DIM,
            "num_query": 24,
            "num_clusters": 3,
            "query_denoising": True,
            "query_denoising_groups": 2,
            "code_size": 10,
            "code_weights": [2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
            "sync_cls_avg_factor": True,
            "transformer": {
                "type": "RaCFormerTransformer",
                "embed_dims": DIM,
                "num_frames": frames,
                "num_levels": 4,
                "num_layers": 2,
                "num_points": 2,
                "num_points_bev": 2,
                "img_depth_num": 2,
                "bev_depth_num": 2,
                "num_ray": 8,
                "num_classes": 10,
                "code_size": 10,
                "pc_range": RANGE,
                "d_region_list": [0.08, 0.05],
                "bev_shape": (32, 32),
            },
            "bbox_coder": {
                "type": "NMSFreeCoder",
                "pc_range": RANGE,
                "post_center_range": [-61.2, -61.2, -10.0, 61.2, 61.2, 10.0],
                "voxel_size": [0.2, 0.2, 8],
                "max_num": 30,
                "score_threshold": 0.0,
                "num_classes": 10,
            },
            "loss_cls": {"type": "FocalLoss", "use_sigmoid": True, "gamma": 2.0, "alpha": 0.25, "loss_weight": 2.0},
            "loss_bbox": {"type": "L1Loss", "loss_weight": 0.25},
            "loss_iou": {"type": "GIoULoss", "loss_weight": 0.0},
        },
        "train_cfg": {
            "pts": {
                "assigner": {
                    "type": "PolarHungarianAssigner3D",
                    "cls_cost": {"type": "FocalLossCost", "weight": 2.0},
                    "reg_cost": {"type": "BBox3DL1Cost", "weight": 0.25},
                    "theta_cost": {"type": "ThetaL1Cost", "weight": 3.0},
                    "iou_cost": {"type": "IoUCost", "weight": 0.0},
                }
            }
        },
    }
    return {**model, **changes}


def lidar2img() -> torch.Tensor:
    """(6, 4, 4): cameras in a ring, 1.5 m up, looking outwards, in the order of the config."""
    matrices = []
    for degrees in (90, 30, 150, -90, -150, -30):  # heading of the optical axis from +x
        a = math.radians(degrees)
        right, forward = (math.sin(a), -math.cos(a), 0.0), (math.cos(a), math.sin(a), 0.0)
        rotation = torch.tensor([right, (0.0, 0.0, -1.0), forward])
        extrinsic = torch.eye(4)
        extrinsic[:3, :3], extrinsic[:3, 3] = rotation, rotation @ torch.tensor([0.0, 0.0, -1.5])
        intrinsic = torch.eye(4)
        intrinsic[0, 0] = intrinsic[1, 1] = 70.0
        intrinsic[0, 2], intrinsic[1, 2] = WIDTH / 2, HEIGHT / 2
        matrices.append(intrinsic @ extrinsic)
    return torch.stack(matrices)


def make_batch(samples: int = 2, frames: int = FRAMES, seed: int = 0, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Batch:
    """Random images and points around the car; sample b of a bigger batch is sample b of a smaller one."""
    parts = [_sample(frames, seed * 1000 + index, size) for index in range(samples)]
    return Batch(
        img=torch.stack([part["img"] for part in parts]),
        lidar2img=torch.stack([lidar2img().repeat(frames, 1, 1)] * samples),
        img_timestamp=torch.stack([-0.5 * torch.arange(frames).repeat_interleave(CAMERAS).double()] * samples) + 1.5e9,
        radar_points=[part["radar_points"] for part in parts],
        radar_depth=torch.stack([part["radar_depth"] for part in parts]),
        radar_rcs=torch.stack([part["radar_rcs"] for part in parts]),
        gt_depth=torch.stack([part["gt_depth"] for part in parts]),
        gt_boxes=[part["gt_boxes"] for part in parts],
        gt_labels=[part["gt_labels"] for part in parts],
        sample_keys=tuple(seed * 1000 + index for index in range(samples)),
    )


def item(batch: Batch, index: int) -> Batch:
    """Sample ``index`` as a batch of one."""
    fields = {name: getattr(batch, name)[index : index + 1] for name in vars(batch)}
    return Batch(**fields)


def _sample(frames: int, seed: int, size: tuple[int, int]) -> dict[str, Any]:
    random = torch.Generator().manual_seed(seed)
    images = frames * CAMERAS

    def sparse(count: int, density: float) -> torch.Tensor:
        present = torch.rand(count, *size, generator=random) < density
        return present * (1 + 60 * torch.rand(count, *size, generator=random))

    def points(n: int) -> torch.Tensor:
        cloud = torch.randn(n, 7, generator=random)
        cloud[:, :2] *= 20
        cloud[:, 2] = 0
        return cloud

    depth = sparse(images, 0.01)
    boxes = torch.tensor(
        [[10.0, 5.0, -1.5, 4.5, 1.9, 1.6, 0.3, 2.0, 0.5], [-8.0, 20.0, -1.5, 0.7, 0.7, 1.7, 1.0, 0, 1]]
    )
    boxes[:, :2] += torch.randn(2, 2, generator=random)
    return {
        "img": torch.randint(0, 256, (images, 3, *size), generator=random, dtype=torch.uint8),
        "radar_points": [points(int(n)) for n in torch.randint(5, 40, (frames,), generator=random)],
        "radar_depth": depth,
        "radar_rcs": torch.where(depth > 0, 20 * torch.randn(images, *size, generator=random), 0),
        "gt_depth": sparse(CAMERAS, 0.05),
        "gt_boxes": boxes,
        "gt_labels": torch.tensor([0, 7]),
    }
