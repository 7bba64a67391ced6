"""Upstream's name for the data code: an alias of ``racdino``. Importing it registers data set and pipeline steps."""

from __future__ import annotations

from racdino.openmmlab import pipelines  # noqa: F401
from racdino.openmmlab.dataset import CustomNuScenesDataset_radar

__all__ = ["CustomNuScenesDataset_radar"]
