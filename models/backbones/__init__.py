"""``from models.backbones import DinoAdapter``: the class of ``racdino.backbones``, registered with mmdet."""

from __future__ import annotations

from racdino.openmmlab import DinoAdapter

__all__ = ["DinoAdapter"]
