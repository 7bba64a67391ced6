"""What is computed from a frozen parameter or from sizes alone, kept until it changes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from racdino.ops.serving import is_compiling

_MOST = 24  # values of one module: image sizes that take turns keep theirs, a stream of new ones does not pile up
T = TypeVar("T")


class _Entry(NamedTuple):
    value: Any
    state: list[tuple[int, int, torch.dtype]]  # address, version and type of each parameter
    sources: list[Tensor]  # the parameters' memory, held so that nothing else can take their addresses


class _Kept(dict[Hashable, Any]):
    """Empty in copies and pickles of its module."""

    def __reduce__(self) -> tuple[type[_Kept], tuple[()]]:
        return _Kept, ()

    def keep(self, key: Hashable, value: Any) -> None:
        self.pop(key, None)
        if len(self) >= _MOST:
            del self[next(iter(self))]
        self[key] = value


class Remembering(nn.Module):
    """A module that keeps values derived from its frozen parameters. They are in no state dict, copy or pickle.

    A value is computed again when a parameter of it is another one, has moved (``.to()``) or was written to
    (``load_state_dict``, ``p.mul_()``), all of which torch counts. It does not count writes through ``p.data``: so
    nothing is remembered of a parameter that trains, and a frozen one has to be written to under ``torch.no_grad``
    instead. Nothing is remembered either while torch compiles, traces, or captures a CUDA graph.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._kept = _Kept()

    def _apply(self, *arguments: Any, **named: Any) -> Any:
        self._kept.clear()  # it would hold on to the memory the parameters leave
        return super()._apply(*arguments, **named)

    def cast(self, name: str, dtype: torch.dtype) -> Tensor:
        """The parameter of that name in another dtype."""
        parameter = getattr(self, name)
        if parameter.dtype == dtype:
            return parameter
        return self.remembered((name, dtype), parameter, lambda parameter: parameter.to(dtype))

    def remembered(self, key: Hashable, parameters: Tensor | Sequence[Tensor], compute: Callable[..., T]) -> T:
        """``compute(*parameters)``, from an earlier call with the same ``key`` where that still holds."""
        if isinstance(parameters, Tensor):
            parameters = (parameters,)
        kept = self.if_frozen(key, parameters, compute)
        return compute(*parameters) if kept is None else kept

    def if_frozen(self, key: Hashable, parameters: Sequence[Tensor], compute: Callable[..., T]) -> T | None:
        """What `remembered` gives where it keeps that, otherwise None."""
        if not _may_keep(parameters[0].is_cuda):
            return None
        state = []
        for parameter in parameters:
            if parameter.requires_grad or parameter.is_inference():
                return None
            state.append((parameter.data_ptr(), parameter._version, parameter.dtype))
        entry = self._kept.get(key)
        if entry is None or entry.state != state:
            with torch.inference_mode(False), torch.no_grad():
                entry = _Entry(compute(*parameters), state, [parameter.detach() for parameter in parameters])
            self._kept.keep(key, entry)
        return entry.value

    def constant(self, key: Hashable, device: torch.device, compute: Callable[[], T]) -> T:
        """``compute()`` on ``device``, from an earlier call with the same ``key``: it depends on nothing else."""
        if not _may_keep(device.type == "cuda"):
            return compute()
        found = self._kept.get((key, device))
        if found is None:
            with torch.inference_mode(False):
                found = compute()
            self._kept.keep((key, device), found)
        return found


def _may_keep(on_cuda: bool) -> bool:
    """Not while torch compiles or traces, nor in the capture of a CUDA graph, which computes nothing yet.

    Where torch cannot tell that it compiles, its compiler leaves to Python what follows.
    """
    if is_compiling() or torch.jit.is_tracing():
        return False
    return not (on_cuda and torch.cuda.is_current_stream_capturing())
