"""Upstream's name for the model code: aliases of ``racdino``, no definitions. Importing it registers everything."""

from __future__ import annotations

import racdino.openmmlab.detector  # noqa: F401  (registers the detector and its parts)

from . import backbones

__all__ = ["backbones"]
