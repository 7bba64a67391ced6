"""DINOv2 beside the convolutional backbone: the adapter's maps are mixed into the stages, whose widths stay.

So everything behind the backbone, and its pretrained weights, remain as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from racdino.backbones import DinoAdapter
from racdino.backbones.layers import for_batch_norm
from racdino.detector.channels_last import as_map, pixels
from racdino.detector.conv_module import ConvModule
from racdino.detector.folded_norm import compute_dtype
from racdino.detector.registry import register
from racdino.ops import batch_norm_act

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
        """(B, C_i, H_i, W_i) and (B, A, h_i, w_i), resized bilinearly where they differ, to (B, C_i, H_i, W_i).

        All maps are best in channels-last memory, as the results are on a GPU.
        """
        return [_fused(*parts) for parts in zip(self.convs, stages, adapted, strict=True)]


def _fused(module: ConvModule, stage: Tensor, extra: Tensor) -> Tensor:
    """The convolution of both, as the sum of one of each: so what is resized has C_i channels and nothing is joined."""
    dtype = compute_dtype(stage)
    of_stage, of_extra = module.conv.weight.flatten(1).to(dtype).split([stage.shape[1], extra.shape[1]], dim=1)
    mixed = as_map(pixels(extra.to(dtype)) @ of_extra.t(), extra)
    if mixed.shape[2:] != stage.shape[2:]:
        with torch.autocast(mixed.device.type, enabled=False):  # which would raise it to float32
            mixed = F.interpolate(mixed, size=stage.shape[2:], mode="bilinear", align_corners=False)
    mixed = as_map(pixels(mixed).addmm_(pixels(stage.to(dtype)), of_stage.t()), stage)
    return batch_norm_act(for_batch_norm(mixed), module.bn, relu=True)
