"""SIGTERM, SIGUSR1 and Ctrl-C: the iteration is finished and saved, then the run ends with a status of its own."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

# 143 is what shells, Kubernetes and Slurm report for a SIGTERM. 75 is EX_TEMPFAIL of sysexits.h, "come again": for a
# job that asked for the signal before its time limit (Slurm's --signal=USR1@120) and is to be queued anew.
STATUSES = {signal.SIGTERM: 128 + signal.SIGTERM, signal.SIGUSR1: 75, signal.SIGINT: 128 + signal.SIGINT}


class StopRequest:
    """Remembers the first of the signals that come inside ``with``; a second Ctrl-C interrupts at once.

    ``number`` is 0 until one came. For the main thread.
    """

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        self._before = {number: signal.signal(number, self._remember) for number in STATUSES}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _: FrameType | None) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = self.number or number


class Stopped(Exception):  # noqa: N818  (it reports no error)
    """The run ended because a signal asked for it; what was done is saved."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = STATUSES[signal.Signals(number)]


def ignore_in_worker(_: int = 0) -> None:
    """For data-loading workers: the signals reach whole process groups, and only the trainer is to act on them."""
    for number in STATUSES:
        signal.signal(number, signal.SIG_IGN)
