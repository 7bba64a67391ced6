"""Where an operator of `racdino.ops` takes the place of plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

_VECTOR = 16  # bytes that the operators read of a pixel at a time


def served(x: Tensor, channels: int) -> bool:
    """Whether the operators know the device of ``x`` and pixels of so many channels of its dtype.

    Not while torch compiles or traces, which look into plain torch only. Torch before 2.3 cannot tell that it compiles.
    """
    return x.is_cuda and channels * x.element_size() % _VECTOR == 0 and not torch.jit.is_tracing() and not _compiles()


def _compiles() -> bool:
    return hasattr(torch, "compiler") and hasattr(torch.compiler, "is_compiling") and torch.compiler.is_compiling()
