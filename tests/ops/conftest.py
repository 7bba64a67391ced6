"""Inputs for the operator's tests, on every device present."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

LEVELS = ((6, 5), (3, 4), (1, 2), (2, 1), (5, 7))


class Inputs(NamedTuple):
    """The operator's tensors, in its argument order."""

    value: Tensor
    spatial_shapes: Tensor
    level_start_index: Tensor
    sampling_locations: Tensor
    attention_weights: Tensor


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture
def make_inputs() -> Callable[..., Inputs]:
    return _make_inputs


def _make_inputs(
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
    *,
    batch: int = 2,
    queries: int = 5,
    heads: int = 3,
    channels: int = 8,
    levels: int = 2,
    points: int = 3,
    location_dtype: torch.dtype | None = None,
    requires_grad: bool = False,
    seed: int = 0,
) -> Inputs:
    """Random inputs whose samples lie well inside a bilinear cell, where finite differences mean something.

    The cells reach one beyond the level on every side (two corners outside), and one sample in eight lies far outside.
    """
    generator = torch.Generator().manual_seed(seed)
    shapes = torch.tensor(LEVELS[:levels])
    starts = torch.cat([shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]])
    size = shapes.flip(1).view(1, 1, 1, levels, 1, 2)  # (W, H)
    lead = (batch, queries, heads, levels, points)
    cell = (torch.rand(*lead, 2, generator=generator) * (size + 1)).floor() - 1
    far = torch.rand(*lead, 1, generator=generator) < 1 / 8
    cell = torch.where(far, cell + 3 * size, cell)
    locations = (cell + 0.1 + 0.8 * torch.rand(*lead, 2, generator=generator) + 0.5) / size
    value = torch.randn(batch, int(shapes.prod(1).sum()), heads, channels, generator=generator)
    weights = torch.rand(*lead, generator=generator)
    tensors = (
        value.to(device, dtype),
        locations.to(device, location_dtype or dtype),
        weights.to(device, location_dtype or dtype),
    )
    for tensor in tensors:
        tensor.requires_grad_(requires_grad)
    return Inputs(tensors[0], shapes.to(device), starts.to(device), tensors[1], tensors[2])
