"""Where the steps that wait for memory are the operators' and where plain torch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeGuard, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from racdino.ops._library import built_with_cuda

Module = TypeVar("Module", bound=nn.Module)
VECTOR = 16  # bytes that kernels read of a pixel at a time
_BUILT = built_with_cuda()


def _never() -> bool:
    return False


# Whether torch.compile is reading this code. Torch before 2.3 cannot tell.
is_compiling: Callable[[], bool] = getattr(getattr(torch, "compiler", None), "is_compiling", _never)


def served(x: Tensor) -> bool:
    """Whether a step on ``x`` may take an operator, which has kernels for a GPU only.

    Not while torch traces, which would write down sizes as numbers, nor while it compiles: it fuses more by itself.
    """
    return _BUILT and x.is_cuda and not is_compiling() and not torch.jit.is_tracing()


def differentiates() -> bool:
    """Whether derivatives may be asked for, backward or forward: where not, an operator needs no Function around it."""
    return torch.is_grad_enabled() or forward_ad._current_level >= 0


def has_hooks(module: nn.Module) -> bool:
    """Whether someone listens to the module, which then has to be called."""
    return bool(
        module._forward_pre_hooks or module._forward_hooks or module._backward_pre_hooks or module._backward_hooks
    )


def is_plain(module: nn.Module, kind: type[Module]) -> TypeGuard[Module]:
    """Whether ``module`` may be passed over for what ``kind`` computes: nobody listens, wrapped it or compiled it."""
    own = module.__dict__
    return (
        type(module) is kind
        and not has_hooks(module)
        and "forward" not in own
        and own.get("_compiled_call_impl") is None
    )
