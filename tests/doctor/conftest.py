"""Fixtures of more than one test file here."""

from __future__ import annotations

from mending import prefix, root

__all__ = ["prefix", "root"]
