"""RaCFormer in plain torch: radar-camera 3D detection, with and without DINOv2, on torch 2.0 to the newest.

`build` makes the detector from a config's ``model``; mmcv is not needed.
Source: Chu et al. 2025, RaCFormer, arXiv:2412.12725.
"""

from __future__ import annotations

from racdino.detector.batch import Batch, Detections
from racdino.detector.racformer import RaCFormer
from racdino.detector.registry import build

__all__ = ["Batch", "Detections", "RaCFormer", "build"]
