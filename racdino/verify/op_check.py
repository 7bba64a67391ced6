"""The compiled op against the float64 reference, forward and backward, on one device in one dtype."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from racdino.ops import ms_deform_attn, ms_deform_attn_reference

# Largest allowed ||ours - reference|| / ||reference||. Half types round the result itself: 2^-11 and 2^-8 at most;
# float32 was measured at 2e-6, most of it the rounding of the pixel coordinate.
TOLERANCE = {torch.float32: 2e-5, torch.float16: 5e-4, torch.bfloat16: 4e-3}
LEVELS = ((32, 88), (16, 44), (8, 22))
BATCH, QUERIES, HEADS, CHANNELS, POINTS = 2, 150, 6, 64, 4
NAMES = ("output", "grad value", "grad locations", "grad weights")


@dataclass(frozen=True)
class OpErrors:
    """Norm-wise relative errors of the output and the three gradients, in the order of ``NAMES``."""

    errors: tuple[float, ...]
    tolerance: float

    @property
    def passed(self) -> bool:
        return all(error <= self.tolerance for error in self.errors)

    def __str__(self) -> str:
        forward, backward = self.errors[0], max(self.errors[1:])
        return f"error {forward:.1e} forward, {backward:.1e} backward (at most {self.tolerance:.0e})"


def check_op(device: torch.device, dtype: torch.dtype, seed: int = 0) -> OpErrors:
    """The op with values of ``dtype`` and float32 locations on ``device``; the reference in float64 on the CPU."""
    value, shapes, starts, locations, weights, cotangent = _inputs(seed)
    value, weights, cotangent = (x.to(dtype) for x in (value, weights, cotangent))
    ours = _run(ms_deform_attn, device, value, shapes, starts, locations, weights, cotangent)
    doubles = (x.double() for x in (locations, weights, cotangent))
    reference = _run(ms_deform_attn_reference, torch.device("cpu"), value.double(), shapes, starts, *doubles)
    errors = tuple(_relative_error(a, b) for a, b in zip(ours, reference, strict=True))
    return OpErrors(errors, TOLERANCE[dtype])


def devices() -> list[torch.device]:
    """The CPU and every CUDA device."""
    return [torch.device("cpu"), *(torch.device("cuda", i) for i in range(torch.cuda.device_count()))]


def _inputs(seed: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    shapes = torch.tensor(LEVELS)
    cells = shapes.prod(1)
    value = torch.randn(BATCH, int(cells.sum()), HEADS, CHANNELS, generator=generator)
    lead = (BATCH, QUERIES, HEADS, len(LEVELS), POINTS)
    # A tenth beyond every border, so that the zero padding takes part, and never within a hundredth of a pixel of a
    # cell's edge: there the gradient jumps, and the rounding of the coordinate would decide between two right answers.
    size = shapes.flip(1)[:, None, :]  # (W, H)
    pixels = (torch.rand(*lead, 2, generator=generator) * 1.2 - 0.1) * size - 0.5
    pixels = pixels.floor() + (pixels - pixels.floor()).clamp(0.01, 0.99)
    locations = (pixels + 0.5) / size
    weights = torch.rand(*lead, generator=generator) / (len(LEVELS) * POINTS)
    cotangent = torch.randn(BATCH, QUERIES, HEADS * CHANNELS, generator=generator)
    return value, shapes, cells.cumsum(0) - cells, locations, weights, cotangent


def _run(
    function: Callable[..., Tensor],
    device: torch.device,
    value: Tensor,
    shapes: Tensor,
    starts: Tensor,
    locations: Tensor,
    weights: Tensor,
    cotangent: Tensor,
) -> tuple[Tensor, ...]:
    leaves = [x.detach().to(device).requires_grad_() for x in (value, locations, weights)]
    output = function(leaves[0], shapes.to(device), starts.to(device), leaves[1], leaves[2])
    gradients = torch.autograd.grad(output, leaves, cotangent.to(device))
    return tuple(x.detach().cpu().double() for x in (output, *gradients))


def _relative_error(ours: Tensor, reference: Tensor) -> float:
    return float((ours - reference).norm() / reference.norm())
