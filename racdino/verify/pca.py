"""Feature maps as pictures: their three main directions as red, green and blue."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def principal_components(features: Tensor, count: int = 3) -> Tensor:
    """Project the cells of all maps on the directions of largest variance, found over all maps together.

    Args:
        features: (N, C, H, W).

    Returns:
        (N, H, W, count) float64, centred, largest variance first. A direction has no sign of its own; here its largest
        entry is positive, so that the same features give the same picture.
    """
    n, c, h, w = features.shape
    cells = features.detach().double().cpu().permute(0, 2, 3, 1).reshape(-1, c)
    cells = cells - cells.mean(0)
    directions = torch.linalg.eigh(cells.T @ cells).eigenvectors.flip(1)[:, :count]
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    return (cells @ (directions * largest.sign())).view(n, h, w, count)


def rgb_maps(features: Tensor, clip: float = 0.02) -> np.ndarray:
    """(N, C, H, W) features -> (N, H, W, 3) uint8; each colour runs over its central ``1 - 2 * clip`` of all cells."""
    components = principal_components(features)
    cells = components.view(-1, 3)
    low, high = torch.quantile(cells, clip, dim=0), torch.quantile(cells, 1 - clip, dim=0)
    scaled = (components - low) / (high - low).clamp_min(torch.finfo(torch.float64).tiny)
    return (scaled.clamp(0, 1) * 255).round().byte().numpy()
