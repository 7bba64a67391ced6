"""torchrun with the statuses and signals of the processes it starts: ``python -m racdino.training.torchrun ...``.

torchrun itself ends with 1 and a traceback whatever its processes ended with, and dies of a SIGUSR1 before they hear
of it. Here their status is its status, and SIGUSR1 is handed on.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError


def main(arguments: Sequence[str]) -> int:
    """Run torchrun with ``arguments``; the status of the first process that failed, 128 + signal for a killed one."""
    signal.signal(signal.SIGUSR1, _hand_on)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("LOGLEVEL", "ERROR")  # of torchrun: each process says itself why it ends
    try:
        run.run(run.parse_args(list(arguments)))
    except ChildFailedError as error:
        status = error.get_first_failure()[1].exitcode
        return status if status >= 0 else 128 - status
    except SignalException as error:  # torchrun has handed it on and waited
        return 128 + error.sigval
    return 0


def _hand_on(number: int, _: FrameType | None) -> None:
    for children in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        for child in children.read_text().split():
            os.kill(int(child), number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
