"""Softmax attention behind one function, computed by one of four back ends.

``sdpa`` is torch's own and the default: it runs on every device and dtype. The others are asked for, through
``RACDINO_ATTENTION=<name>`` in the environment or `use_backend`; one that cannot run the given tensors raises, nothing
falls back. The libraries are imported at their first use, not with this module.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

ENVIRONMENT_VARIABLE = "RACDINO_ATTENTION"
_HALF = (torch.float16, torch.bfloat16)


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(query key^T / sqrt(D)) value, per head.

    Args:
        query, key, value: (B, M, N, D): batch, heads, tokens, head width.
    Returns:
        (B, M, N, D), same dtype.
    Raises:
        RuntimeError: the chosen back end cannot run these tensors; the message says why.
    Source: Vaswani et al. 2017, arXiv:1706.03762, eq. 1.
    """
    if _backend in _LIBRARIES:
        capability = torch.cuda.get_device_capability(query.device) if query.is_cuda else None
        reason = refusal(_backend, query.device.type, capability, query.dtype, query.shape[-1])
        if reason is not None:
            raise RuntimeError(
                f"the attention back end {_backend!r} {reason}; choose another with {ENVIRONMENT_VARIABLE}=sdpa"
            )
    return _BACKENDS[_backend](query, key, value)


def refusal(
    backend: str, device_type: str, capability: tuple[int, int] | None, dtype: torch.dtype, head_width: int
) -> str | None:
    """Why ``backend`` must not be given such tensors, or None: what the pinned binaries hold."""
    if backend == "flash_attn":
        if device_type != "cuda" or capability is None or capability < (8, 0):
            return "needs a GPU of compute capability 8.0 or newer"
        if dtype not in _HALF:
            return f"computes in float16 or bfloat16, not {dtype}: run the model under autocast"
        if head_width > 256:
            return f"takes heads of up to 256 channels, not {head_width}"
    if backend == "xformers":
        if capability is not None and capability >= (9, 0):
            return "has no kernel for compute capability 9.0 and newer"
        if device_type == "cpu" and (head_width > 32 or head_width % 4 or dtype != torch.float32):
            return f"runs on a CPU only for float32 heads of 4, 8, ... 32 channels, not {dtype} heads of {head_width}"
    return None


class use_backend:  # noqa: N801  (reads as torch.no_grad and torch.set_grad_enabled do)
    """Choose the back end for the whole process from now on, or for the length of a ``with`` block.

    Raises:
        ValueError: there is no such back end.
        ImportError: its library is not installed or does not load.
    """

    def __init__(self, name: str) -> None:
        global _backend
        _require(name)
        self.previous = _backend
        _backend = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        global _backend
        _backend = self.previous


def backend() -> str:
    """The back end in use: ``sdpa``, ``xformers``, ``flash_attn`` or ``math``."""
    return _backend


def _math(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    return scores.softmax(dim=-1).to(value.dtype) @ value


def _xformers(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    from xformers.ops import memory_efficient_attention

    return memory_efficient_attention(*(x.transpose(1, 2) for x in (query, key, value))).transpose(1, 2)


def _flash_attn(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    from flash_attn import flash_attn_func

    return flash_attn_func(*(x.transpose(1, 2) for x in (query, key, value))).transpose(1, 2)


_BACKENDS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "sdpa": F.scaled_dot_product_attention,
    "xformers": _xformers,
    "flash_attn": _flash_attn,
    "math": _math,
}
_LIBRARIES = {"xformers": "xformers.ops", "flash_attn": "flash_attn"}


def _require(name: str) -> None:
    """Raise unless ``name`` is a back end whose library loads."""
    if name not in _BACKENDS:
        raise ValueError(f"there is no attention back end {name!r}; there are {', '.join(_BACKENDS)}")
    library = _LIBRARIES.get(name)
    if library is None:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # these libraries warn at import about what they do without
            importlib.import_module(library)
    except (ImportError, OSError) as error:
        raise ImportError(
            f"the attention back end {name!r} needs {library}, which does not load here: {error}"
        ) from error


_backend = os.environ.get(ENVIRONMENT_VARIABLE, "sdpa")
_require(_backend)
