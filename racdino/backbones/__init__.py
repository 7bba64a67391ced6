"""Image backbones in plain torch: DINOv2 and DINOv2 with ViT-Adapter. Read `dinov2`, then `dino_adapter`."""

from __future__ import annotations

from racdino.backbones.dino_adapter import DinoAdapter
from racdino.backbones.dinov2 import (
    DinoVisionTransformer,
    dinov2_vitb14,
    dinov2_vitb14_reg,
    dinov2_vitg14,
    dinov2_vitg14_reg,
    dinov2_vitl14,
    dinov2_vitl14_reg,
    dinov2_vits14,
    dinov2_vits14_reg,
)

__all__ = [
    "DinoAdapter",
    "DinoVisionTransformer",
    "dinov2_vitb14",
    "dinov2_vitb14_reg",
    "dinov2_vitg14",
    "dinov2_vitg14_reg",
    "dinov2_vitl14",
    "dinov2_vitl14_reg",
    "dinov2_vits14",
    "dinov2_vits14_reg",
]
