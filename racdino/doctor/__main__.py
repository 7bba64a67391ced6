"""``python -m racdino.doctor``: on any Python from 3.8 on, whatever is installed."""

from __future__ import annotations

from racdino.doctor.main import main

raise SystemExit(main())
