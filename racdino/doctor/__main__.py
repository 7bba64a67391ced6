"""``python -m racdino.doctor``: on any Python from 3.8 on, whatever is installed."""

from __future__ import annotations

import os
import sys

# `-m` puts the working directory first: a checkout, say, whose `json.py` would be imported, and so executed, below.
if sys.path[0] in {"", os.getcwd()}:  # noqa: PTH109  (pathlib is not imported yet, for the same reason)
    del sys.path[0]

from racdino.doctor.main import main

raise SystemExit(main())
