"""``python -m racdino.openmmlab.training CONFIG``, one process of a run."""

from __future__ import annotations

import sys

from racdino.openmmlab.training.main import main
from racdino.training import processes

if __name__ == "__main__":
    processes.leave(lambda: main(sys.argv[1:]))
