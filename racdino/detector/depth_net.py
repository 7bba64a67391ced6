"""The network that predicts a depth distribution and a context vector per pixel, told about camera and radar.

Source: Li et al. 2023, arXiv:2206.10092 (BEVDepth); Chen et al. 2017, arXiv:1706.05587 (ASPP); the radar input is
RaCFormer's, arXiv:2412.12725.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from racdino.detector.randomness import SampleRandom

_CAMERA_NUMBERS = 9  # the top left 3x3 of the inverse projection
_DILATIONS = (1, 6, 12, 18)
_DROPOUT = 0.5


class Mlp(nn.Module):
    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_channels, channels)
        self.fc2 = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.relu(self.fc1(x)))


class SELayer(nn.Module):
    """A gate per channel, computed from another vector. Source: Hu et al. 2018, arXiv:1709.01507."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, channels, 1)
        self.conv_expand = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        """x (B, C, H, W) and vector (B, C) to x with its channels scaled by numbers in (0, 1)."""
        return x * self.conv_expand(F.relu(self.conv_reduce(vector[..., None, None]))).sigmoid()


class _Atrous(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        size, padding = (1, 0) if dilation == 1 else (3, dilation)
        self.atrous_conv = nn.Conv2d(channels, channels, size, padding=padding, dilation=dilation, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        nn.init.kaiming_normal_(self.atrous_conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.atrous_conv(x)))


class ASPP(nn.Module):
    """Convolutions of four dilations and the mean of the whole map, side by side, and mixed."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for index, dilation in enumerate(_DILATIONS, start=1):
            setattr(self, f"aspp{index}", _Atrous(channels, dilation))
        self.global_avg_pool = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.conv1 = nn.Conv2d(channels * (len(_DILATIONS) + 1), channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        for conv in (self.global_avg_pool[1], self.conv1):
            nn.init.kaiming_normal_(conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        parts = [getattr(self, f"aspp{index}")(x) for index in range(1, len(_DILATIONS) + 1)]
        parts.append(self.global_avg_pool(x).expand_as(x))
        return F.relu(self.bn1(self.conv1(torch.cat(parts, 1))))


class DepthNet(nn.Module):
    """Image features, radar and camera to depth logits and context.

    Args:
        in_channels: C of the features, and width of all layers. context_channels, depth_channels: of the two outputs.
        radar_channels: of the radar input. depthnet_cfg: the config's; ``use_dcn`` must not be set.
    """

    def __init__(
        self,
        in_channels: int,
        context_channels: int,
        depth_channels: int,
        radar_channels: int,
        depthnet_cfg: Mapping[str, Any],
    ) -> None:
        if unknown := {key: value for key, value in depthnet_cfg.items() if key != "use_dcn" or value}:
            raise ValueError(f"depthnet_cfg has {unknown}, which the depth net does not have; use_dcn=False is all.")
        super().__init__()
        width = in_channels
        self.reduce_conv = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.context_conv = nn.Conv2d(width, context_channels, 1)
        self.bn = nn.BatchNorm1d(_CAMERA_NUMBERS)
        self.depth_mlp = Mlp(_CAMERA_NUMBERS, width)
        self.depth_se = SELayer(width)
        self.dep_proj = nn.Conv2d(width + radar_channels, width, 1)
        self.context_mlp = Mlp(_CAMERA_NUMBERS, width)
        self.context_se = SELayer(width)
        self.depth_conv = nn.Sequential(
            *(BasicBlock(width, width) for _ in range(3)), ASPP(width), nn.Conv2d(width, depth_channels, 1)
        )

    def forward(self, x: Tensor, radar: Tensor, camera: Tensor, random: SampleRandom | None) -> tuple[Tensor, Tensor]:
        """x (K, C, h, w), radar (K, R, h, w), camera (K, 9) to depth logits (K, D, h, w) and context (K, C', h, w).

        The K images are sample-major; ``random`` is for the dropout of training.
        """
        camera = self.bn(camera)
        x = self.reduce_conv(x)
        context = self.context_conv(self.context_se(x, self.context_mlp(camera)))
        depth = self.depth_se(x, self.depth_mlp(camera))
        depth = self.depth_conv[:-1](self.dep_proj(torch.cat([depth, radar], 1)))
        if self.training and random is not None:
            depth = random.dropout(depth, _DROPOUT, "depth_net.aspp")
        return self.depth_conv[-1](depth), context
