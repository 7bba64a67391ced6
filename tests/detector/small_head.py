"""A small RaCFormer head and what it looks at."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

import racdino.detector.head  # noqa: F401  (registers it)
from racdino.detector.randomness import SampleRandom
from racdino.detector.registry import build

RANGE = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
SIZE = (32, 64)
FRAMES, VIEWS, CELLS, DIM = 2, 3, 8, 16

ASSIGNER = {
    "type": "PolarHungarianAssigner3D",
    "cls_cost": {"type": "FocalLossCost", "weight": 2.0},
    "reg_cost": {"type": "BBox3DL1Cost", "weight": 0.25},
    "theta_cost": {"type": "ThetaL1Cost", "weight": 3.0},
    "iou_cost": {"type": "IoUCost", "weight": 0.0},
}


def make_head(dtype: torch.dtype = torch.float64, transformer: dict[str, Any] | None = None, **changes: Any):
    """A head of 24 queries, two layers, two frames and three views, with random weights everywhere."""
    torch.manual_seed(0)
    config = {
        "type": "RaCFormer_head",
        "num_classes": 4,
        "in_channels": DIM,
        "num_query": 24,
        "num_clusters": 3,
        "query_denoising_groups": 3,
        "loss_cls": {"type": "FocalLoss", "use_sigmoid": True, "gamma": 2.0, "alpha": 0.25, "loss_weight": 2.0},
        "loss_bbox": {"type": "L1Loss", "loss_weight": 0.25},
        "loss_iou": {"type": "GIoULoss", "loss_weight": 0.0},
        "positional_encoding": {"type": "SinePositionalEncoding", "num_feats": DIM // 2},
        "bbox_coder": {
            "type": "NMSFreeCoder",
            "pc_range": RANGE,
            "post_center_range": [-61.2, -61.2, -10.0, 61.2, 61.2, 10.0],
            "voxel_size": [0.2, 0.2, 8],
            "max_num": 10,
            "score_threshold": 0.005,
            "num_classes": 4,
        },
        **changes,
    }
    config["transformer"] = {
        "type": "RaCFormerTransformer",
        "embed_dims": DIM,
        "num_frames": FRAMES,
        "num_levels": 2,
        "num_layers": 2,
        "num_points": 2,
        "num_points_bev": 2,
        "img_depth_num": 2,
        "bev_depth_num": 2,
        "num_ray": 8,
        "num_classes": 4,
        "pc_range": RANGE,
        "d_region_list": [0.08, 0.05],
        "num_heads": 4,
        "bev_shape": (CELLS, CELLS),
        **(transformer or {}),
    }
    made = build(config, train_cfg={"assigner": ASSIGNER}).to(dtype)
    layer = made.transformer.decoder["decoder_layer"]
    for zeroed in (layer.mixing.parameter_generator, layer.self_attn.gen_tau, layer.sampling.sampling_offset):
        torch.nn.init.normal_(zeroed.weight, std=0.05)
    return made


def make_inputs(batch: int = 2, dtype: torch.dtype = torch.float64) -> tuple[Any, ...]:
    """features, lss_bev, radar_bev, lidar2img, img_timestamp, image_size."""
    torch.manual_seed(1)
    images = FRAMES * VIEWS
    features = [torch.randn(batch, images, DIM, 8 // 2**level, 16 // 2**level, dtype=dtype) for level in range(2)]
    lss, radar = (torch.randn(batch, FRAMES, DIM, CELLS, CELLS, dtype=dtype) for _ in range(2))
    matrices = []
    for view in range(VIEWS):
        azimuth = 2 * math.pi * view / VIEWS
        axes = [
            [math.sin(azimuth), -math.cos(azimuth), 0.0],
            [0.0, 0.0, -1.0],
            [math.cos(azimuth), math.sin(azimuth), 0.0],
        ]
        matrix = torch.eye(4, dtype=dtype)
        intrinsics = torch.tensor([[30.0, 0, 32], [0, 30, 16], [0, 0, 1]], dtype=dtype)
        matrix[:3, :3] = intrinsics @ torch.tensor(axes, dtype=dtype)
        matrices.append(matrix)
    lidar2img = torch.stack(matrices).repeat(FRAMES, 1, 1).expand(batch, -1, -1, -1)
    now = 1.5e9 + torch.arange(batch, dtype=torch.float64)[:, None]
    age = torch.tensor([0.0, 0.5], dtype=torch.float64).repeat_interleave(VIEWS)
    return features, lss, radar, lidar2img, now - age * (1 + 0.1 * torch.arange(batch)[:, None]), SIZE


def make_targets(counts: tuple[int, ...] = (2, 5), dtype: torch.dtype = torch.float64):
    """Per sample so many box rows, and their labels."""
    generator = torch.Generator().manual_seed(2)
    boxes, labels = [], []
    for count in counts:
        box = torch.rand(count, 9, generator=generator, dtype=torch.float64)
        box[:, :2] = box[:, :2] * 80 - 40
        box[:, 2] = box[:, 2] * 2 - 2
        box[:, 3:6] = 0.5 + 4 * box[:, 3:6]
        box[:, 6:] = box[:, 6:] * 6 - 3
        boxes.append(box.to(dtype))
        labels.append(torch.randint(4, (count,), generator=generator))
    return boxes, labels


def find(head: Any, inputs: tuple[Any, ...], targets: Any = None, random: SampleRandom | None = None) -> Any:
    """What ``head`` makes of `make_inputs`."""
    return head(head.queries(len(inputs[3]), targets, random), *inputs)


def of_sample(inputs: tuple[Any, ...], index: int) -> tuple[Any, ...]:
    """`make_inputs` with one sample of the batch."""
    features, *maps, size = inputs
    part = slice(index, index + 1)
    return [level[part] for level in features], *(x[part] for x in maps), size


def keyed(*keys: int) -> SampleRandom:
    return SampleRandom(keys)


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()
