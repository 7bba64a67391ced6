"""Generate the locks in environment/ from its pins.toml: `python scripts/lock.py`, or `--check` to compare only."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # scripts/ and racdino/ of this checkout, installed or not

from scripts.locking.main import main

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
