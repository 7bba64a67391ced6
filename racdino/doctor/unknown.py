"""A value of a config that reading it as text does not tell."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Unknown:
    """What only running the config could tell: ``reason`` says what stands on ``line``."""

    line: int
    reason: str
