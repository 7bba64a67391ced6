"""An exponential moving average of the weights, for evaluation; training goes on with the weights themselves."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class ExponentialAverage(AveragedModel):
    """torch's `AveragedModel` with average = d * average + (1 - d) * weights, d = decay * (1 - exp(-n / ramp)).

    n counts the updates, so the first ones forget the initial weights quickly. Buffers are copied, not averaged.

    Args:
        decay: of a long run, e.g. 0.999.
        ramp: updates after which the decay is at 63 % of it.
    """

    module: nn.Module
    n_averaged: Tensor

    def __init__(self, model: nn.Module, decay: float = 0.999, ramp: float = 2000.0) -> None:
        def average(averaged: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
            if not averaged.is_floating_point():
                return current
            return averaged.lerp(current, 1 - decay * (1 - math.exp(-int(updates) / ramp)))

        super().__init__(model, avg_fn=average)
        self.requires_grad_(False)
        self.module.eval()
