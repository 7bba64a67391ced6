"""What is computed from a frozen parameter, kept until the parameter changes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

_MOST = 8  # values of one module: image sizes that take turns keep theirs, a stream of new ones does not pile up


class _Entry(NamedTuple):
    source: Tensor  # the parameter's memory, held so that nothing else can take its address
    version: int
    value: Tensor


class _Entries(dict[Hashable, _Entry]):
    """Empty in copies and pickles of its module."""

    def __reduce__(self) -> tuple[type[_Entries], tuple[()]]:
        return _Entries, ()


class Remembering(nn.Module):
    """A module that keeps values derived from its frozen parameters. They are in no state dict, copy or pickle.

    A value is computed again when its parameter is another one, has moved (``.to()``) or was written to
    (``load_state_dict``, ``p.mul_()``), all of which torch counts. It does not count writes through ``p.data``: so
    nothing is remembered of a parameter that trains, and a frozen one has to be written to under ``torch.no_grad``
    instead. Nothing is remembered either while torch compiles, traces, or captures a CUDA graph.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._entries = _Entries()

    def _apply(self, *arguments: Any, **named: Any) -> Any:
        self._entries.clear()  # it would hold on to the memory the parameters leave
        return super()._apply(*arguments, **named)

    def cast(self, name: str, dtype: torch.dtype) -> Tensor:
        """The parameter of that name in another dtype."""
        parameter = getattr(self, name)
        if parameter.dtype == dtype:
            return parameter
        return self.remembered((name, dtype), parameter, lambda parameter: parameter.to(dtype))

    def remembered(self, key: Hashable, parameter: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """``compute(parameter)``, from an earlier call with the same ``key`` where that still holds."""
        if _is_compiled() or parameter.requires_grad or parameter.is_inference() or torch.jit.is_tracing():
            return compute(parameter)
        entry = self._entries.get(key)
        if (
            entry is not None
            and entry.source.data_ptr() == parameter.data_ptr()
            and entry.source.dtype == parameter.dtype
            and entry.version == parameter._version
        ):
            return entry.value
        if parameter.is_cuda and torch.cuda.is_current_stream_capturing():
            return compute(parameter)  # a capture computes nothing yet
        with torch.inference_mode(False), torch.no_grad():
            value = compute(parameter)
        self._entries.pop(key, None)
        if len(self._entries) >= _MOST:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = _Entry(parameter.detach(), parameter._version, value)
        return value


def _is_compiled() -> bool:
    """Whether torch.compile is looking. Torch 2.0 cannot tell; its compiler leaves what follows to Python."""
    return hasattr(torch, "compiler") and torch.compiler.is_compiling()
