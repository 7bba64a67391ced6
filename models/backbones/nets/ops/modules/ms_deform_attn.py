"""Alias of ``racdino.ops``."""

from __future__ import annotations

from racdino.ops import MSDeformAttn

__all__ = ["MSDeformAttn"]
