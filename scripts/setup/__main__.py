"""``python -m scripts.setup``, as scripts/bootstrap.sh calls it."""

from __future__ import annotations

import sys

from scripts.setup.main import main

raise SystemExit(main(sys.argv[1:]))
