"""deformops, Triton kernels of the op from the package registry, as a peer of benchmarks/msda.py."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from racdino.ops import ms_deform_attn

_FARTHEST = 2e-2  # norm of the difference from ours over ours'; 16-bit weights alone cost 4e-3


def load_deformops() -> Callable[..., Tensor] | None:
    """Its operator ``(value, shapes, starts, locations, weights)``; None, and a sentence, where it cannot run."""
    try:
        from deformops.registry import msda
    except (ImportError, SyntaxError) as error:  # the latter on a Python before 3.12
        print(f"deformops is not installed for this Python ({error}), so it is left out.")
        return None
    try:
        off = max(difference(msda, dtype, "cuda") for dtype in (torch.float32, torch.float16, torch.bfloat16))
    except Exception as error:  # whatever its compiler says; the other peers are measured all the same
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        print(f"deformops cannot run here ({reason}), so it is left out.")
        return None
    if off > _FARTHEST:
        print(f"deformops computes something else here ({off:.1e} from ours), so it is left out.")
        return None
    return msda


def difference(peer: Callable[..., Tensor], dtype: torch.dtype, device: str) -> float:
    """How far its result lies from ours (norm), with samples inside, outside and on the border."""
    generator = torch.Generator().manual_seed(0)
    shapes = torch.tensor([[6, 9], [3, 5]])
    value = torch.randn(2, 69, 3, 32, generator=generator).to(device, dtype)
    locations = (1.4 * torch.rand(2, 7, 3, 2, 4, 2, generator=generator) - 0.2).to(device)
    weights = torch.rand(2, 7, 3, 2, 4, generator=generator).to(device)
    levels = shapes.to(device), torch.tensor([0, 54]).to(device)
    with torch.no_grad():
        exact = ms_deform_attn(value, *levels, locations, weights).float()
        found = peer(value, *(table.int() for table in levels), locations, weights.to(dtype)).float()
    return float((found - exact).norm() / exact.norm())
