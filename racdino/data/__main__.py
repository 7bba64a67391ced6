"""``python -m racdino.data``, as ``racdino data``."""

from __future__ import annotations

import sys

from racdino.data.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
