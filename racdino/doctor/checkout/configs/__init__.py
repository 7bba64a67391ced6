"""What a checkout's configs say, read as text: nothing of them is executed. Importing this registers RD7xx."""

from __future__ import annotations

from racdino.doctor.checkout.configs import adapter, baseline, own_code, paths, reading, shapes, training, type_names

__all__ = ["adapter", "baseline", "own_code", "paths", "reading", "shapes", "training", "type_names"]
