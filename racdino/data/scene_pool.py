"""Every scene through one function, in several processes, with progress."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

from tqdm import tqdm

from racdino.data.tables import Scene

_PR_SET_PDEATHSIG = 1
_Result = TypeVar("_Result")
# Both reach the workers by fork: the tables are large and need no copy.
_work: Callable[[Scene], Any]
_scenes: Sequence[Scene] = ()


def each_scene(
    work: Callable[[Scene], _Result], scenes: Sequence[Scene], workers: int, lock: int = -1
) -> Iterator[tuple[int, _Result]]:
    """Yield (index, work(scene)) as they come.

    Args:
        lock: file descriptor of a lock, which workers must not hold on to.
    Raises:
        BrokenProcessPool: a worker was killed. Whatever ``work`` raises.
    """
    global _work, _scenes
    with tqdm(total=len(scenes), unit="scene", desc="scenes", disable=None) as bar:
        if workers == 1:
            for index, scene in enumerate(scenes):
                yield index, work(scene)
                bar.update()
            return
        _work, _scenes = work, scenes
        context = multiprocessing.get_context("fork")
        executor = ProcessPoolExecutor(workers, context, _begin_worker, (lock, os.getpid()))
        try:
            futures = {executor.submit(_run, index): index for index in range(len(scenes))}
            for future in as_completed(futures):
                yield futures[future], future.result()
                bar.update()
        finally:
            executor.shutdown(cancel_futures=True)
            _scenes = ()


def _begin_worker(lock: int, parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # no worker outlives a killed command
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command; it lets each worker end its scene
    if lock >= 0:
        os.close(lock)


def _run(index: int) -> Any:
    return _work(_scenes[index])
