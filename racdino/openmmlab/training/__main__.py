"""``python -m racdino.openmmlab.training CONFIG``, one process of a run."""

from __future__ import annotations

import sys

from racdino.openmmlab.training.main import main

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
