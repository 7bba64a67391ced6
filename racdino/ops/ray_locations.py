"""Where RaCFormer's queries look, on a GPU in one pass each way: the public face of ``torch.ops.racdino``'s operator.

In plain torch the same is some sixty small kernels per branch of every decoder layer, and as many backward: the GPU
waits for the host to queue them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Ray(NamedTuple):
    """Numbers that the host knows.

    pc_range: x, y, z low, then high, metres. radius: metres of one unit of d. region: half of the stretch of the ray
    that is covered, in units of d. image_size: (height, width) in pixels of ``lidar2img``.
    """

    pc_range: Sequence[float]
    radius: float
    region: float
    image_size: Sequence[int] = ()


def ray_locations(
    offsets: Tensor,
    steps: Tensor,
    boxes: Tensor,
    ages: Tensor,
    ray: Ray,
    lidar2img: Tensor | None = None,
    map_shapes: Tensor | None = None,
) -> Tensor:
    """Points around each query's box, moved back in time by its velocity and along the ray from the car.

    Differentiable once in ``offsets``, ``steps`` and ``boxes`` (but not in their velocities). Bitwise reproducible.

    Args:
        offsets: (B, Q, D, G, P, 3 or 2) float32 or float64 on a GPU, in units of the box; D places along the ray, P
            points per group and place.
        steps: (B, Q, D), through a sigmoid where between its neighbours a place lies.
        boxes: (B, Q, 10) query boxes (see `racdino.detector.decoder.coordinates`).
        ages: (B, T) seconds by which each frame is older than the current one.
        lidar2img, map_shapes: (B, T, N, 4, 4), and (L, 2) int64 rows and columns of each level's map of N stacked
            views, a row of zeros after each (see `racdino.detector.decoder.view_sampling`); or neither.

    Returns:
        Sampling locations for `ms_deform_attn`: of offsets in three dimensions, in the first view that shows a point,
        (B, T, Q, D * P, G, L, 2); in two, on the ground, (B, T, Q, G, D * P, 2) as x, y in [0, 1] of the range.

    Raises:
        RuntimeError: shapes, devices or dtypes do not fit; the message names the argument and what it should be.
    """
    locations: Tensor = _RayLocations.apply(offsets, steps, boxes, ages, lidar2img, map_shapes, ray)
    return locations


class _RayLocations(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        *tensors, ray = arguments
        ctx.save_for_backward(*tensors)
        ctx.ray = ray
        return torch.ops.racdino.ray_locations(*_in_order(tensors, ray))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        arguments = _in_order(ctx.saved_tensors, ctx.ray)
        boxes_wanted = ctx.needs_input_grad[2]
        offsets, steps, boxes = torch.ops.racdino.ray_locations_backward(grad, *arguments, boxes_wanted)
        return offsets, steps, boxes if boxes_wanted else None, None, None, None, None


def _in_order(tensors: Sequence[Tensor | None], ray: Ray) -> tuple[Any, ...]:
    """As the schema has them."""
    offsets, steps, boxes, ages, lidar2img, map_shapes = tensors
    return offsets, steps, boxes, ages, ray.pc_range, ray.radius, ray.region, lidar2img, map_shapes, ray.image_size
