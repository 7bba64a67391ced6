"""Checks of a checkout: `subject.py` reads it, each module beside it is one theme. Importing this registers them."""

from __future__ import annotations

from racdino.doctor.checkout import configs, data, files, gone, imports, infos, layout, live, names, ops, weights

__all__ = ["configs", "data", "files", "gone", "imports", "infos", "layout", "live", "names", "ops", "weights"]
