"""Config dictionaries to objects: ``dict(type="CustomFPN", out_channels=256)`` builds the class of that name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

TYPES: dict[str, Callable[..., Any]] = {}
# Asked, in order, for a type that is not ours: racdino.openmmlab adds mmdet's registries here.
RESOLVERS: list[Callable[[str], Callable[..., Any] | None]] = []

_Class = TypeVar("_Class", bound=Callable[..., Any])


def register(name: str) -> Callable[[_Class], _Class]:
    """Class decorator: configs call it ``name``."""

    def decorate(cls: _Class) -> _Class:
        if TYPES.setdefault(name, cls) is not cls:
            raise KeyError(f"{name} is already the config name of {TYPES[name]!r}; a second class needs another name")
        return cls

    return decorate


def build(config: Mapping[str, Any], **given: Any) -> Any:
    """The object that ``config`` describes: ``config["type"]`` called with its other keys and ``given``.

    Raises:
        ValueError: no ``type``, one that nobody knows, or a class that does not take these keys; both are named.
    """
    keys = dict(config)
    name = keys.pop("type", None)
    if not isinstance(name, str):
        raise ValueError(f"A part of the model has no type: {dict(config)}.")
    cls = TYPES.get(name) or next(filter(None, (resolve(name) for resolve in RESOLVERS)), None)
    if cls is None:
        raise ValueError(f"type={name!r} is no known part of the model; known are {', '.join(sorted(TYPES))}.")
    try:
        inspect.signature(cls).bind(**keys, **given)
    except TypeError as error:
        raise ValueError(f"type={name!r} cannot be built from the keys {sorted({*keys, *given})}: {error}.") from error
    return cls(**keys, **given)
