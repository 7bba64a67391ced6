"""The plain structure of the image branch, as a peer: torchvision's ResNet with its batch norms, DinoAdapter as its
papers write it, maps joined before the fusion's convolutions, and necks of convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from backbone_reference import plain_adapter
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from racdino.detector.fpn import CustomFPN
from racdino.ops import ms_deform_attn


def make_plain_images(model: Any) -> None:
    """Let the image modules of ``model`` (a RaCFormer) compute in the plain way from now on."""
    model.img_backbone.forward = MethodType(_resnet, model.img_backbone)
    for neck in (model.img_neck, getattr(model, "img_lss_neck", None)):
        if neck is not None:
            neck.forward = MethodType(_custom_fpn if isinstance(neck, CustomFPN) else _fpn, neck)
    if hasattr(model, "dinov2_adapter"):
        adapter = model.dinov2_adapter
        adapter.forward = lambda images: plain_adapter(adapter, images, ms_deform_attn)
        model.adapter_fusion.forward = MethodType(_fusion, model.adapter_fusion)


def _resnet(self: Any, x: Tensor) -> list[Tensor]:
    x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
    maps = []
    for stage in range(self.num_stages):
        for block in getattr(self, f"layer{stage + 1}"):
            recompute = self.with_cp and torch.is_grad_enabled() and x.requires_grad
            x = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
        if stage in self.out_indices:
            maps.append(x)
    return maps


def _fusion(self: Any, stages: Sequence[Tensor], adapted: Sequence[Tensor]) -> list[Tensor]:
    fused = []
    for module, stage, extra in zip(self.convs, stages, adapted, strict=True):
        if extra.shape[2:] != stage.shape[2:]:
            extra = F.interpolate(extra, size=stage.shape[2:], mode="bilinear", align_corners=False)
        fused.append(module.activate(module.bn(_convolve(module.conv, torch.cat([stage, extra], 1)))))
    return fused


def _convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    return F.conv2d(x, conv.weight, conv.bias, padding=conv.padding)


def _merged(self: Any, maps: Sequence[Tensor]) -> list[Tensor]:
    laterals = [_convolve(module.conv, x) for module, x in zip(self.lateral_convs, maps, strict=True)]
    for level in range(len(laterals) - 1, 0, -1):
        size = laterals[level - 1].shape[2:]
        laterals[level - 1] = laterals[level - 1] + F.interpolate(laterals[level], size=size, mode="nearest")
    return laterals


def _fpn(self: Any, maps: Sequence[Tensor]) -> list[Tensor]:
    outputs = [_convolve(module.conv, x) for module, x in zip(self.fpn_convs, _merged(self, maps), strict=True)]
    while len(outputs) < self.num_outs:
        outputs.append(F.max_pool2d(outputs[-1], 1, stride=2))
    return outputs


def _custom_fpn(self: Any, maps: Sequence[Tensor]) -> Tensor:
    return _convolve(self.fpn_convs[0].conv, _merged(self, maps)[self.out_id])
