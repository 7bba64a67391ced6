"""Put a class into mmdet's BACKBONES once, and say plainly when another class holds its name."""

from __future__ import annotations

from mmdet.models.builder import BACKBONES
from torch import nn


def register_backbone(cls: type[nn.Module]) -> None:
    """Register ``cls`` under its own name; again is fine, a second class of that name is not.

    Raises:
        KeyError: another class of the same name is registered; the message names both.
    """
    holder = registered_backbone(cls.__name__)
    if holder is cls:
        return
    if holder is not None:
        raise KeyError(
            f"{cls.__name__} is already registered in mmdet's BACKBONES by {holder.__module__}, a second class beside "
            f"{cls.__module__}: delete the copy and write `from models.backbones import {cls.__name__}` in its place."
        )
    BACKBONES.register_module(module=cls)


def registered_backbone(name: str) -> type[nn.Module] | None:
    """The class that a config's ``type=name`` means, or None."""
    return BACKBONES.get(name)
