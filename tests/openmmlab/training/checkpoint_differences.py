"""Compare two checkpoints bit by bit."""

from __future__ import annotations

from typing import Any

import torch


def differences(one: Any, other: Any, place: str = "") -> list[str]:
    """Where two checkpoints differ in a single bit."""
    if isinstance(one, torch.Tensor):
        return [] if torch.equal(one, other) else [place]
    if isinstance(one, dict):
        keys = [] if one.keys() == other.keys() else [f"{place}: {set(one) ^ set(other)}"]
        return keys + [d for key in one if key in other for d in differences(one[key], other[key], f"{place}/{key}")]
    if isinstance(one, (list, tuple)):
        pairs = enumerate(zip(one, other, strict=True))
        return [d for index, (a, b) in pairs for d in differences(a, b, f"{place}/{index}")]
    return [] if one == other else [f"{place}: {one} {other}"]
