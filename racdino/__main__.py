"""``python -m racdino`` is the ``racdino`` command."""

from __future__ import annotations

from racdino.cli import main

raise SystemExit(main())
