"""Alias of ``racdino.backbones``."""

from __future__ import annotations

from racdino.backbones import DinoVisionTransformer

__all__ = ["DinoVisionTransformer"]
