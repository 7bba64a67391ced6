"""Every check there is: importing the modules that define them fills ``CHECKS``. Standard library only."""

from __future__ import annotations

from racdino.doctor import checkout, environment
from racdino.doctor.check import CHECKS

__all__ = ["CHECKS", "checkout", "environment"]
