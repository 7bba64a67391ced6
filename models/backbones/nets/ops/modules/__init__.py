"""``from models.backbones.nets.ops.modules import MSDeformAttn``."""

from __future__ import annotations

from .ms_deform_attn import MSDeformAttn

__all__ = ["MSDeformAttn"]
