"""Pictures of what a detector sees: cameras, bird's-eye view, a page of samples, training curves. No torch, no mmcv."""

from __future__ import annotations

from racdino.show.curves import draw_curves

__all__ = ["draw_curves"]
