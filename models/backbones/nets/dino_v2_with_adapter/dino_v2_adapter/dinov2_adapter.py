"""Alias of ``racdino.openmmlab``."""

from __future__ import annotations

from racdino.openmmlab import DinoAdapter

__all__ = ["DinoAdapter"]
