"""Feature pyramids over the backbone's maps, in channels-last memory. Source: Lin et al. 2017, arXiv:1612.03144."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from racdino.backbones.spatial_prior import project
from racdino.detector.conv_module import ConvModule
from racdino.detector.registry import register


def _top_down(laterals: list[Tensor]) -> list[Tensor]:
    """Each level plus what is above it, nearest neighbour; coarsest last."""
    merged = laterals[-1:]
    for lateral in reversed(laterals[:-1]):
        merged.insert(0, _with_upsampled(lateral, merged[0]))
    return merged


def _with_upsampled(x: Tensor, above: Tensor) -> Tensor:
    """(B, C, H, W) plus (B, C, h, w) repeated to its size; of twice the size in one pass, as all even levels are."""
    height, width = above.shape[2:]
    if x.shape[2:] != (2 * height, 2 * width):
        return x + F.interpolate(above, size=x.shape[2:], mode="nearest")
    blocks = x.permute(0, 2, 3, 1).unflatten(2, (width, 2)).unflatten(1, (height, 2))
    blocks = blocks + above.permute(0, 2, 3, 1)[:, :, None, :, None]
    return blocks.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


class _Pyramid(nn.Module):
    def __init__(self, in_channels: Sequence[int], out_channels: int, outputs: int) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(ConvModule(channels, out_channels, 1) for channels in in_channels)
        self.fpn_convs = nn.ModuleList(ConvModule(out_channels, out_channels, 3) for _ in range(outputs))

    def merge(self, maps: Sequence[Tensor]) -> list[Tensor]:
        if len(maps) != len(self.lateral_convs):
            raise ValueError(f"The neck takes {len(self.lateral_convs)} maps and was given {len(maps)}.")
        return _top_down([project(lateral.conv, x) for lateral, x in zip(self.lateral_convs, maps, strict=True)])


@register("FPN")
class FPN(_Pyramid):
    """One output per input, and maps beyond them by taking every second pixel of the last.

    Args:
        in_channels: of each input, finest first. out_channels: of every output. num_outs: how many outputs.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int, num_outs: int) -> None:
        if num_outs < len(in_channels):
            raise ValueError(f"FPN has {len(in_channels)} inputs and cannot have fewer outputs (num_outs={num_outs}).")
        super().__init__(in_channels, out_channels, len(in_channels))
        self.num_outs = num_outs

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """(B, C_i, H_i, W_i) maps to ``num_outs`` maps (B, out_channels, H_i, W_i)."""
        outputs = [conv(x) for conv, x in zip(self.fpn_convs, self.merge(maps), strict=True)]
        while len(outputs) < self.num_outs:
            outputs.append(F.max_pool2d(outputs[-1], 1, stride=2))
        return outputs


@register("CustomFPN")
class CustomFPN(_Pyramid):
    """The pyramid of the view transformer: only the merged map of one input's size comes out.

    Args:
        in_channels, out_channels: as FPN's. num_outs, start_level, out_ids: accepted as upstream writes them, 1, 0 and
            the one index of the input whose size the output has.
    Source: Huang & Huang 2022, arXiv:2203.17054 (BEVDet4D).
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int = 1,
        start_level: int = 0,
        out_ids: Sequence[int] = (0,),
    ) -> None:
        if num_outs != 1 or start_level != 0 or len(out_ids) != 1:
            raise ValueError(
                f"CustomFPN returns one map: num_outs={num_outs}, start_level={start_level}, out_ids={list(out_ids)} "
                "must be 1, 0 and one index."
            )
        super().__init__(in_channels, out_channels, 1)
        self.out_id = int(out_ids[0])

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """(B, C_i, H_i, W_i) maps to one (B, out_channels, H, W)."""
        return self.fpn_convs[0](self.merge(maps)[self.out_id])
