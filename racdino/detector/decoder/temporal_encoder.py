"""Radar BEV over time: a convolutional GRU carries what was seen before to each frame.

Source: RaCFormer, arXiv:2412.12725, section 3.4 (implicit dynamic catcher); ConvGRU: Ballas et al. 2016,
arXiv:1511.06432.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

RECURRENT_FRAMES = 4  # older ones carry no state
GRADIENT_FRAMES = 2  # the state is differentiated in the newest frames only, to save memory


class RadarTemporalEncoder(nn.Module):
    """Radar BEV features joined with a recurrent state at half resolution.

    Args:
        embed_dims: channels of the maps; the state has a quarter of them.
        legacy_temporal_order: run from the current frame to the oldest, as upstream does; the current frame then sees
            no history. The default runs from the oldest to the current one. The parameters are the same.
    """

    def __init__(self, embed_dims: int, legacy_temporal_order: bool = False) -> None:
        super().__init__()
        hidden = embed_dims // 4
        self.legacy_temporal_order = legacy_temporal_order
        self.downsample = nn.Conv2d(embed_dims, hidden, 3, stride=2, padding=1)
        self.convGRU = nn.ModuleDict({"convGRUCell": ConvGRUCell(hidden)})
        self.upsample = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), nn.Conv2d(hidden, hidden, 3, padding=1)
        )
        self.temporal_fusion = nn.Conv2d(embed_dims + hidden, embed_dims, 3, padding=1)

    def forward(self, bev: Tensor) -> Tensor:
        """(B, T, C, H, W), frame 0 current, to the same shape.

        Raises:
            ValueError: H or W is odd.
        """
        B, T, _, H, W = bev.shape
        if H % 2 or W % 2:
            raise ValueError(f"Radar BEV maps have {(H, W)} cells; both numbers must be even.")
        state = self.upsample(self._states(bev).flatten(0, 1))
        fused = self.temporal_fusion(torch.cat([bev.flatten(0, 1), state], dim=1))
        return fused.view(B, T, -1, H, W)

    def _states(self, bev: Tensor) -> Tensor:
        """(B, T, hidden, H / 2, W / 2), zero in the frames that take no part."""
        cell = self.convGRU["convGRUCell"]
        order = list(range(min(bev.shape[1], RECURRENT_FRAMES)))
        if not self.legacy_temporal_order:
            order.reverse()
        states: dict[int, Tensor] = {}
        state = None
        for frame in order:
            with torch.set_grad_enabled(torch.is_grad_enabled() and frame < GRADIENT_FRAMES):
                x = self.downsample(bev[:, frame])
                state = cell(x, torch.zeros_like(x) if state is None else state)
            states[frame] = state
        assert state is not None
        empty = torch.zeros_like(state)
        return torch.stack([states.get(frame, empty) for frame in range(bev.shape[1])], dim=1)


class ConvGRUCell(nn.Module):
    """h' = W h; z, r, c = conv([x, h']); h = (1 - z) h + z tanh(c + r h), with sigmoids on z and r."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates_conv = nn.Conv2d(2 * channels, 3 * channels, 3, padding=1)
        self.matching_layer = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """Both (B, C, H, W)."""
        gates = self.gates_conv(torch.cat([x, self.matching_layer(state)], dim=1))
        update, reset, candidate = gates.chunk(3, dim=1)
        update = update.sigmoid()
        candidate = torch.tanh(candidate + reset.sigmoid() * state)
        return (1 - update) * state + update * candidate
