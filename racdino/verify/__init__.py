"""The main job, ``python -m racdino.verify``: does this environment hold what it promises, on camera frames?"""

from __future__ import annotations

from racdino.verify.main import main

__all__ = ["main"]
