"""Loss scaling and skipped steps, on any device: torch 2.0's GradScaler only works with CUDA."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_GROWTH_INTERVAL = 2000  # good steps after which a dynamic scale doubles, as torch's GradScaler does


class LossScaler:
    """Scales the loss so that half-precision gradients do not vanish, and refuses steps whose gradients are not finite.

    Args:
        scale: factor of the loss; a power of two loses nothing.
        dynamic: double it after 2000 good steps in a row and halve it after a refused one.
    """

    def __init__(self, scale: float = 1.0, dynamic: bool = False) -> None:
        self.scale = float(scale)
        self.dynamic = dynamic
        self.good_steps = 0
        self.skipped_in_a_row = 0

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss``, scaled."""
        (loss * self.scale).backward()

    def unscale(self, parameters: Iterable[nn.Parameter], max_norm: float = math.inf, norm_type: float = 2) -> float:
        """Undo the scale, clip to ``max_norm``, and return the norm before clipping: not finite means do not step.

        With several processes the gradients are already averaged, so all of them see the same norm.
        """
        kept = [parameter for parameter in parameters if parameter.grad is not None]
        if not kept:
            return 0.0
        if self.scale != 1:
            gradients = [parameter.grad for parameter in kept if parameter.grad is not None]
            torch._foreach_mul_(gradients, 1 / self.scale)
        return float(nn.utils.clip_grad_norm_(kept, max_norm, norm_type))

    def update(self, finite: bool) -> None:
        """Count one step, taken or refused, and adapt a dynamic scale."""
        self.good_steps = self.good_steps + 1 if finite else 0
        self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1
        if self.dynamic and not finite:
            self.scale /= 2
        elif self.dynamic and self.good_steps and self.good_steps % _GROWTH_INTERVAL == 0:
            self.scale *= 2

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {"scale": self.scale, "good_steps": self.good_steps, "skipped_in_a_row": self.skipped_in_a_row}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.scale, self.good_steps = float(state["scale"]), int(state["good_steps"])
        self.skipped_in_a_row = int(state["skipped_in_a_row"])
