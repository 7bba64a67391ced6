"""``python -m racdino.verify``."""

from racdino.verify.main import main

raise SystemExit(main())
