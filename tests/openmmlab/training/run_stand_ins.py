"""``python -m run_stand_ins``: ``racdino.openmmlab.training`` with the stand-ins registered."""

from __future__ import annotations

import sys

import stand_ins  # noqa: F401

from racdino.openmmlab.training.main import main
from racdino.training import processes

if __name__ == "__main__":
    processes.leave(lambda: main(sys.argv[1:]))
