"""Compare a config with the baseline, key by key: ``python tools/verify_dinov2_config.py [CONFIG]``."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for checkouts without an install; the only such line in the project

from racdino.doctor.config_checks import main  # noqa: E402

raise SystemExit(main(ROOT))
