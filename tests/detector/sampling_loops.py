"""Sampling by the paper's words, one point at a time in float64: what the vectorised code is compared with."""

from __future__ import annotations

import math

import torch

from racdino.detector.decoder.ray_points import RayPoints


def bilinear(image: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """(C, H, W) at pixel x, y; zero outside."""
    found = torch.zeros(image.shape[0], dtype=torch.float64)
    for column in (math.floor(x), math.floor(x) + 1):
        for row in (math.floor(y), math.floor(y) + 1):
            if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
                found += image[:, row, column] * (1 - abs(x - column)) * (1 - abs(y - row))
    return found


def ray_point(sampler: RayPoints, box, query, age: float, region: float, d: int, g: int, p: int):
    """x, y and the offset in z of one point, from the description in the paper's words."""
    D, G, P, k = sampler.depth_num, sampler.num_groups, sampler.num_points, sampler.dimensions
    raw = (sampler.sampling_offset.weight @ query + sampler.sampling_offset.bias).tolist()
    start = ((d * G + g) * P + p) * k
    offset = [raw[start + axis] * math.exp(box[3 + axis]) for axis in range(k)]
    yaw = math.atan2(box[6], box[7])
    clamp = lambda v: min(max(v, -51.2), 51.2)  # noqa: E731
    x = clamp(65 * box[1] * math.cos(2 * math.pi * box[0]))
    y = clamp(65 * box[1] * math.sin(2 * math.pi * box[0]))
    x += offset[0] * math.cos(yaw) - offset[1] * math.sin(yaw) - box[8] * age
    y += offset[0] * math.sin(yaw) + offset[1] * math.cos(yaw) - box[9] * age
    along = (sampler.ray_points_offset.weight @ query + sampler.ray_points_offset.bias)[d]
    step = -region + 2 * region * d / (D - 1) + (2 * float(along.sigmoid()) - 1) * region / D / 2
    azimuth, distance = math.atan2(y, x), math.hypot(x, y) + 65 * step
    return clamp(distance * math.cos(azimuth)), clamp(distance * math.sin(azimuth)), offset[-1]
