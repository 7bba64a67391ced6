"""The processes of one run: who this one is, and what they agree on. Alone, every function is trivial."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist

_Result = TypeVar("_Result")


def start() -> None:
    """Join the processes that torchrun, or whoever sets RANK and WORLD_SIZE, started: by nccl, or gloo on CPU."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 and "RANK" not in os.environ:
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if cuda else "gloo")


def leave(run: Callable[[], int]) -> NoReturn:
    """End this process with the status that ``run`` returns, 1 after an exception, without taking the group apart.

    Taking it apart can wait for ever: for peers that are gone, and in torch 2.0 for Python's lock, which this thread
    holds while gloo's threads need it to let go of their last tensors.
    """
    status = 1
    try:
        status = run()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def is_distributed() -> bool:
    """Whether there is a process group, of one process or more."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """The number of this process among those of all machines; number 0 writes the files."""
    return dist.get_rank() if is_distributed() else 0


def count() -> int:
    """How many processes there are on all machines."""
    return dist.get_world_size() if is_distributed() else 1


def device() -> torch.device:
    """Where this process trains."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def highest(number: int) -> int:
    """The highest ``number`` of all processes, the same in each: they all call it, or none."""
    if count() == 1:
        return number
    shared = torch.tensor(number, device=device())
    dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    return int(shared)


def of_process_0(value: Any) -> Any:
    """``value`` of process 0 in every process: plain Python values."""
    if count() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def by_process_0(action: Callable[[], _Result]) -> _Result:
    """What ``action`` returns in process 0, or the exception that it raises there, in every process."""
    outcome: tuple[Any, Exception | None] = (None, None)
    if rank() == 0:
        try:
            outcome = (action(), None)
        except Exception as error:
            outcome = (None, error)
    result, failure = of_process_0(outcome)
    if failure is not None:
        raise failure
    return result


def of_all(value: Any) -> list[Any]:
    """``value`` of every process, by rank, in every process."""
    if count() == 1:
        return [value]
    values: list[Any] = [None] * count()
    dist.all_gather_object(values, value)
    return values
