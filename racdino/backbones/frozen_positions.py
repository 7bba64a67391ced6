"""Position embeddings of a frozen model in a compiled graph: an operator that remembers, where a graph would not.

Inside a graph every call would resize the table again. As an operator the compiler does not look into, each call asks
whether the table is still the one the result was computed from, as `Remembering` does outside of graphs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from racdino.backbones.frozen import Remembering
from racdino.backbones.position import resize_positions

_memory = Remembering()  # of all models: an operator has no module


def frozen_positions(positions: Tensor, height: int, width: int, offset: float, antialias: bool) -> Tensor:
    """`resize_positions` of a table without gradient, computed once for every table and size."""
    resized: Tensor = torch.ops.racdino.frozen_positions(positions, height, width, offset, antialias)
    return resized


def _remembered(positions: Tensor, height: int, width: int, offset: float, antialias: bool) -> Tensor:
    how = (height, width, offset, antialias)
    resized = _memory.remembered(
        (positions.data_ptr(), *how), positions, lambda positions: resize_positions(positions, *how)
    )
    return resized.clone()  # a graph may write over what an operator returned


def _shape(positions: Tensor, height: int, width: int, offset: float, antialias: bool) -> Tensor:
    return positions.new_empty((1, height * width, positions.shape[2]))


if hasattr(torch, "compiler"):  # torch 2.0 cannot add to a library of operators
    _library = torch.library.Library("racdino", "FRAGMENT")  # kept: the registrations live as long as it does
    _library.define("frozen_positions(Tensor positions, int height, int width, float offset, bool antialias) -> Tensor")
    _library.impl("frozen_positions", _remembered, "CompositeExplicitAutograd")
    _library.impl("frozen_positions", _shape, "Meta")
