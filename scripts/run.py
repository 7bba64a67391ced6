"""Run a command in the image, from any checkout: `python3 RacDINO/scripts/run.py train configs/mine.py`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # scripts/ of this checkout, wherever it is called from

from scripts.image.run import main

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
