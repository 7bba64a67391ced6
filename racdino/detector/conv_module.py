"""Convolution, batch norm and ReLU under the names that OpenMMLab's checkpoints use: ``conv`` and ``bn``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

_BATCH_NORMS = ("BN", "BN1d", "BN2d", "SyncBN")  # over which processes its statistics go, the training loop decides


class ConvModule(nn.Module):
    """A padded convolution; ``norm`` adds batch norm and ReLU and takes the convolution's bias away."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, norm: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=not norm)
        if norm:
            nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
            self.bn = nn.BatchNorm2d(out_channels)
            self.activate = nn.ReLU(inplace=True)
        else:
            nn.init.xavier_uniform_(self.conv.weight)
            nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H, W)."""
        x = self.conv(x)
        return self.activate(self.bn(x)) if hasattr(self, "bn") else x


def batch_norm_keys(norm_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """``norm_cfg`` of a config as keyword arguments of torch's batch norms, ``requires_grad`` left out.

    Raises:
        ValueError: it is another kind of normalisation.
    """
    keys = dict(norm_cfg)
    if (name := keys.pop("type", None)) not in _BATCH_NORMS:
        raise ValueError(f"norm_cfg has type={name!r}; this layer has a batch norm ({', '.join(_BATCH_NORMS)}).")
    keys.pop("requires_grad", None)
    return keys
