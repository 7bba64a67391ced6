"""Check imports, op, configs, weights and data set: ``python check_dinov2_setup.py``. The exit status answers."""

from __future__ import annotations

from pathlib import Path

from racdino.doctor.setup_checks import main

raise SystemExit(main(Path(__file__).resolve().parent))
