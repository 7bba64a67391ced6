"""The only folder that imports mmcv and mmdet: our modules under their config names, and config reading.

Importing it registers ``DinoAdapter`` in mmdet's BACKBONES; mmdet3d builds from there too.
"""

from __future__ import annotations

from racdino.backbones import DinoAdapter
from racdino.openmmlab.registration import register_backbone

register_backbone(DinoAdapter)

__all__ = ["DinoAdapter"]
