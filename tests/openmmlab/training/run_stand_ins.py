"""``python -m run_stand_ins``: ``racdino.openmmlab.training`` with the stand-ins registered."""

from __future__ import annotations

import sys

import stand_ins  # noqa: F401

from racdino.openmmlab.training.main import main

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
