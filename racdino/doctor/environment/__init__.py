"""Checks of the environment: `subject.py` is what they look at, each module beside it is one group."""

from __future__ import annotations

from racdino.doctor.environment import (
    attention,
    extensions,
    gpu,
    limits,
    network,
    packages,
    platform,
    shared_folders,
    traps,
)

__all__ = ["attention", "extensions", "gpu", "limits", "network", "packages", "platform", "shared_folders", "traps"]
