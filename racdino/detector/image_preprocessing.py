"""From camera images to the network's input, on the device: colour augmentation, normalisation, padding, GridMask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from racdino.detector.constants import constant
from racdino.detector.randomness import SampleRandom

_DRAWS = 12  # uniform numbers that one image's photometric distortion reads


class ImagePreprocessing(nn.Module):
    """Images as they were loaded to normalised, padded ones.

    Args:
        img_norm_cfg: ``mean`` and ``std`` per channel in 0..255, ``to_rgb``. img_pad_cfg: ``size_divisor`` in pixels.
        img_color_aug: photometric distortion in training. use_grid_mask: GridMask in training.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        img_norm_cfg: Mapping[str, Any],
        img_pad_cfg: Mapping[str, Any] | None = None,
        img_color_aug: bool = False,
        use_grid_mask: bool = True,
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(img_norm_cfg["mean"])[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(img_norm_cfg["std"])[:, None, None], persistent=False)
        self.to_rgb = bool(img_norm_cfg.get("to_rgb", True))
        self.size_divisor = int((img_pad_cfg or {}).get("size_divisor", 1))
        self.color_aug = img_color_aug
        self.use_grid_mask = use_grid_mask

    def pad(self, x: Tensor) -> Tensor:
        """Zeros right and below, to multiples of ``size_divisor``."""
        height, width = x.shape[-2:]
        return F.pad(x, (0, -width % self.size_divisor, 0, -height % self.size_divisor))

    def forward(self, images: Tensor, random: SampleRandom | None) -> Tensor:
        """(B, K, 3, H, W) BGR in 0..255 to the same in float32, normalised and padded; ``random`` means training."""
        x = images.float()
        if random is not None and self.color_aug:
            draws = random.uniform((x.shape[1], _DRAWS), "photometric", x)
            x = torch.stack([photometric(sample, draw) for sample, draw in zip(x, draws, strict=True)])
        if self.to_rgb:
            x = x.flip(2)
        x = self.pad((x - self.mean) / self.std)
        if random is not None and self.use_grid_mask:
            draws = random.uniform((4,), "grid_mask", torch.empty(0))
            x = x * torch.stack([grid_mask(draw.tolist(), x) for draw in draws])[:, None, None]
        return x


def photometric(x: Tensor, draws: Tensor) -> Tensor:
    """Distort the colours of (K, 3, H, W) BGR images in 0..255, each by its row of (K, 12) numbers in [0, 1).

    Each with probability 0.5: brightness by up to 32, contrast by 0.5 to 1.5 (before or after the others), saturation
    by 0.5 to 1.5, hue by up to 18 degrees, channels in another order. Source: Liu et al. 2016, arXiv:1512.02325 (SSD).
    """
    chosen = draws[:, :5] < 0.5
    contrast_first = draws[:, 5] < 0.5
    amount = draws[:, 6:9] * 2 - 1  # brightness, saturation, hue

    def per_image(value: Tensor) -> Tensor:
        return value[:, None, None, None]

    contrast = torch.where(chosen[:, 1], 0.5 + draws[:, 9], 1.0)
    x = x + per_image(chosen[:, 0] * amount[:, 0] * 32)
    x = x * per_image(torch.where(contrast_first, contrast, 1.0))
    saturation = torch.where(chosen[:, 2], 1 + amount[:, 1] * 0.5, 1.0)
    hue = chosen[:, 3] * amount[:, 2] * 18
    x = shift_hsv(x.clamp(min=0), hue, saturation)
    x = x * per_image(torch.where(contrast_first, 1.0, contrast))
    # Two numbers make the six orders: which channel comes first, and in which direction the others follow.
    first = (draws[:, 10] * 3).long()
    step = torch.where(draws[:, 11] < 0.5, 1, 2)
    order = (first[:, None] + step[:, None] * torch.arange(3, device=x.device)) % 3
    order = torch.where(chosen[:, 4, None], order, torch.arange(3, device=x.device))
    return x.gather(1, order[:, :, None, None].expand_as(x))


def shift_hsv(x: Tensor, hue: Tensor, saturation: Tensor) -> Tensor:
    """(K, 3, H, W) non-negative BGR with hue turned by (K,) degrees and saturation multiplied by (K,)."""
    blue, green, red = x.unbind(1)
    value, largest = x.max(1)
    chroma = value - x.amin(1)
    safe = chroma.clamp(min=torch.finfo(x.dtype).tiny)
    sector = torch.stack([(red - green) / safe + 4, (blue - red) / safe + 2, (green - blue) / safe], 1)
    sector = torch.where(chroma > 0, sector.gather(1, largest[:, None])[:, 0], 0) + hue[:, None, None] / 60
    chroma = chroma * saturation[:, None, None]
    # Each channel falls from the value by at most the chroma, by a trapezoid over the six sectors of the hue.
    k = (sector[:, None] + constant((1, 3, 5), sector.dtype, sector.device)[:, None, None]) % 6
    return value[:, None] - chroma[:, None] * torch.minimum(k, 4 - k).clamp(0, 1)


def grid_mask(draw: Sequence[float], like: Tensor, ratio: float = 0.5, probability: float = 0.7) -> Tensor:
    """(H, W) of 1 (keep) and 0: squares in a grid are deleted, of side 1 - ``ratio`` times the grid's period.

    ``draw`` holds four numbers in [0, 1): whether, period, and offset down and right. One mask serves all images of a
    sample. Source: Chen et al. 2020, arXiv:2001.04086.
    """
    height, width = like.shape[-2:]
    if draw[0] >= probability:
        return like.new_ones(height, width)
    period = 2 + int(draw[1] * (min(height, width) - 2))
    side = max(1, round(period * (1 - ratio)))
    rows = (torch.arange(height, device=like.device) + int(draw[2] * period)) % period < side
    columns = (torch.arange(width, device=like.device) + int(draw[3] * period)) % period < side
    return 1 - (rows[:, None] & columns).to(like.dtype)
