"""Several linear layers of the same input as one product: a tenth of the kernels, forward and backward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Numbers = Mapping[nn.Linear, Tensor]  # what each layer makes of a query


class JoinedLinear:
    """The layers with their parameters joined, for all calls of a forward pass."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self.layers = tuple(layers)
        self.weight = torch.cat([layer.weight for layer in layers])
        self.bias = torch.cat([layer.bias for layer in layers])

    def __call__(self, x: Tensor) -> Numbers:
        """(..., C) to (..., C') of each layer."""
        widths = [layer.out_features for layer in self.layers]
        return dict(zip(self.layers, F.linear(x, self.weight, self.bias).split(widths, dim=-1), strict=True))
