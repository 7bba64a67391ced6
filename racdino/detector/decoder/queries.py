"""Where queries start: on rays in all directions, one per ring on each ray."""

from __future__ import annotations

import torch
from torch import Tensor


def place_queries(boxes: Tensor, num_clusters: int) -> None:
    """Put query boxes (Q, 10) on rings, in place: ``num_clusters`` rings of equally many, ordered ray after ray.

    Ring i of K has d = i / (K + 1). Height 0.5 of the range, log dz 0.2 and no velocity; the other numbers are kept.

    Raises:
        ValueError: Q does not divide into the rings.
    """
    count = boxes.shape[0]
    if count % num_clusters:
        raise ValueError(f"num_query {count} does not divide into num_clusters {num_clusters} rings.")
    rays = count // num_clusters
    with torch.no_grad():
        ring = torch.arange(1, num_clusters + 1, device=boxes.device) / (num_clusters + 1)
        boxes[:, 0] = (torch.arange(rays, device=boxes.device) / rays).repeat_interleave(num_clusters)
        boxes[:, 1] = ring.repeat(rays)
        boxes[:, 2] = 0.5
        boxes[:, 5] = 0.2
        boxes[:, 8:] = 0.0
