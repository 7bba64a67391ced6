"""DINOv2 beside the convolutional backbone: the adapter's maps are mixed into the stages, whose widths stay.

So everything behind the backbone, and its pretrained weights, remain as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from racdino.backbones import DinoAdapter
from racdino.detector.conv_module import ConvModule
from racdino.detector.registry import register

register("DinoAdapter")(DinoAdapter)


class AdapterFusion(nn.Module):
    """Stage maps and adapter maps, side by side through a 1x1 convolution, batch norm and ReLU, to the stages' widths.

    Args:
        stage_channels: C_i of each stage. adapter_channels: of every adapter map.
    """

    def __init__(self, stage_channels: Sequence[int], adapter_channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            ConvModule(channels + adapter_channels, channels, 1, norm=True) for channels in stage_channels
        )

    def forward(self, stages: Sequence[Tensor], adapted: Sequence[Tensor]) -> list[Tensor]:
        """(B, C_i, H_i, W_i) and (B, A, h_i, w_i), resized bilinearly where they differ, to (B, C_i, H_i, W_i)."""
        fused = []
        for conv, stage, extra in zip(self.convs, stages, adapted, strict=True):
            if extra.shape[2:] != stage.shape[2:]:
                extra = F.interpolate(extra, size=stage.shape[2:], mode="bilinear", align_corners=False)
            fused.append(conv(torch.cat([stage, extra], 1)))
        return fused
