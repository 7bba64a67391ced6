"""``from models.backbones.nets.dino_v2_with_adapter import DinoAdapter``."""

from __future__ import annotations

from racdino.openmmlab import DinoAdapter

__all__ = ["DinoAdapter"]
