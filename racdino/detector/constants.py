"""Small tensors out of numbers that the code knows, made once per device.

Made anew in every forward pass, each would be a copy from the host for which the GPU's whole queue is waited for.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor


@cache
def constant(numbers: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """``numbers``, nested as `torch.tensor` takes them, as a tensor that all callers share: do not write into it."""
    with torch.inference_mode(False):  # one made in inference mode could not be used in training afterwards
        return torch.tensor(numbers, dtype=dtype, device=device)
