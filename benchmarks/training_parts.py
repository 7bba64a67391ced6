"""Where a training step's time goes: the GPU's time line, cut where a part of the model begins and ends.

A part's forward is what lies between its call and its return. Its backward begins when the gradient of a result
arrives and ends when that of an argument leaves; what a checkpoint computes again counts for the part as well.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

REST = "rest"


class TimeLine:
    """Events on the current stream, each with the name of the part that begins there."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self.inside = [REST]

    def mark(self, name: str) -> None:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self.events.append((name, event))

    def watch(self, owner: Any, method: str, name: str) -> None:
        """Count calls of ``owner.method`` as ``name``, here and in the backward pass."""
        setattr(owner, method, self.timed(getattr(owner, method), name))

    def timed(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(call)
        def run(*arguments: Any, **named: Any) -> Any:
            outside = self.inside[-1]
            arguments, named = self._when_gradient_passes((arguments, named), outside)
            self.inside.append(name)
            self.mark(name)
            try:
                return self._when_gradient_passes(call(*arguments, **named), name)
            finally:
                self.inside.pop()
                self.mark(outside)

        return run

    def _when_gradient_passes(self, values: Any, name: str) -> Any:
        def marked(value: Any) -> Any:
            follows = isinstance(value, Tensor) and value.requires_grad and torch.is_grad_enabled()
            return _Mark.apply(value, self, name) if follows else value

        return tree_map(marked, values)

    def milliseconds(self) -> dict[str, float]:
        """Time per part since the first event, which is forgotten then."""
        torch.cuda.synchronize()
        found: dict[str, float] = {}
        for (name, begin), (_, end) in zip(self.events, self.events[1:], strict=False):
            found[name] = found.get(name, 0.0) + begin.elapsed_time(end)
        self.events.clear()
        return found


class _Mark(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, line: TimeLine, name: str) -> Tensor:
        ctx.line, ctx.name = line, name
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        ctx.line.mark(ctx.name)
        return grad, None, None
