"""Upstream's name for the model code: aliases of ``racdino``, no definitions. Importing it registers everything."""

from __future__ import annotations

from . import backbones

__all__ = ["backbones"]
