"""Loss normalisers over all processes, so that several processes train like one with the same samples.

Gradients are averaged over processes. A loss that each process divides by the mean of the processes' counts is then the
one that a single process with all the samples would have divided by the sum.
"""

from __future__ import annotations

import torch.distributed as distributed
from torch import Tensor


def mean_over_processes(x: Tensor) -> Tensor:
    """The mean of each process's ``x``, without gradient; ``x`` itself where there is one process."""
    if num_processes() == 1:
        return x
    total = x.detach().clone()
    distributed.all_reduce(total)
    return total / num_processes()


def normaliser(count: int | Tensor, like: Tensor) -> Tensor:
    """What each process divides its sum of losses by: the processes' mean count, the total at least 1.

    Args:
        count: what this process counted, one number.
        like: the loss's tensor, for device and dtype.
    """
    # A number is written by the device itself: copying it there would wait for the device.
    total = like.new_full((), count) if isinstance(count, int) else count.to(like)
    return mean_over_processes(total).clamp(min=1 / num_processes())


def num_processes() -> int:
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
