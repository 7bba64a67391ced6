"""The configs of a checkout, each read once, and what several checks ask of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Tuple  # noqa: UP035 - Python 3.8

from racdino.doctor.check import Problem
from racdino.doctor.checkout.configs.text_config import ConfigReader, ConfigTextError, TextConfig, line_of
from racdino.doctor.checkout.subject import Checkout
from racdino.doctor.unknown import Unknown

MOST_CONFIGS = 500
LARGEST = 10**9  # of a size or count
ADAPTER = "DinoAdapter"
Keys = Tuple[str, ...]  # noqa: UP006 - evaluated, and Python 3.8 has no tuple[...]
Found = Tuple[Keys, str]  # noqa: UP006 - where it stands, and the sentence
Adapter = Tuple[Keys, Mapping]  # noqa: UP006


class Configs:
    """Every ``configs/**/*.py``: those that load by name, and those that do not with their error."""

    def __init__(self, checkout: Checkout) -> None:
        self.root = Path(checkout.root)
        names = sorted(name for name in checkout.files(".py") if name.startswith("configs/"))
        self.left_out = len(names[MOST_CONFIGS:])
        self.loaded: dict[str, TextConfig] = {}
        self.failed: dict[str, ConfigTextError] = {}
        reader = ConfigReader()
        for name in names[:MOST_CONFIGS]:
            try:
                self.loaded[name] = reader.read(self.root / name)
            except ConfigTextError as error:
                self.failed[name] = error

    @property
    def detectors(self) -> dict[str, TextConfig]:
        """Those that have a model."""
        return {name: config for name, config in self.loaded.items() if isinstance(config.values.get("model"), dict)}

    def place(self, config: TextConfig, keys: Keys) -> str:
        """``file:line`` of where ``keys`` are set, in the config or in the base that it has them from."""
        path, line = _whereabouts(config, keys)
        name = self.name(path)
        return f"{name}:{line}" if line else name

    def name(self, path: Path) -> str:
        """``path`` relative to the checkout."""
        return PurePosixPath(os.path.relpath(path, self.root)).as_posix()

    def problems(self, find: Callable[[TextConfig], Iterable[Found]], remedy: str = "") -> Iterator[Problem]:
        """What ``find`` finds in each detector config; what comes from a base is reported of the base alone."""
        for config in self.detectors.values():
            inherited = {cause for base in config.bases for _, cause in find(base)}
            for keys, cause in find(config):
                if cause not in inherited:
                    yield Problem(cause, remedy, self.place(config, keys))


@lru_cache(maxsize=2)
def configs_of(checkout: Checkout) -> Configs:
    """The configs of ``checkout``, read once for all checks."""
    return Configs(checkout)


def at(values: Any, *keys: str) -> Any:
    """The value under ``keys``; None where there is none or only running the config could tell."""
    for key in keys:
        if not isinstance(values, Mapping) or key not in values:
            return None
        values = values[key]
    return None if isinstance(values, Unknown) else values


def number(values: Any, *keys: str) -> int | float | None:
    """The same where it is a number."""
    value = at(values, *keys)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def whole(values: Any, *keys: str) -> int | None:
    """The same where it is a positive whole number."""
    value = number(values, *keys)
    return value if isinstance(value, int) and 0 < value < LARGEST else None


def numbers(values: Any, *keys: str) -> list[float] | None:
    """The same where it is a list of numbers."""
    value = at(values, *keys)
    plain = isinstance(value, (list, tuple)) and all(
        type(item) in (int, float) and abs(item) < LARGEST for item in value
    )
    return list(value) if plain else None


def sections(value: Any, keys: Keys = ()) -> Iterator[tuple[Keys, Mapping[str, Any]]]:
    """Every dict in ``value``, itself included, with its keys; list positions are ``[n]``."""
    if isinstance(value, Mapping):
        yield keys, value
        for key, item in value.items():
            yield from sections(item, (*keys, str(key)))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from sections(item, (*keys, f"[{index}]"))


def adapters(config: TextConfig) -> list[Adapter]:
    """The sections of type DinoAdapter that the model has, or else the one at the top level."""
    inside = [found for found in sections(at(config.values, "model"), ("model",)) if found[1].get("type") == ADAPTER]
    top = at(config.values, "dinov2_adapter")
    return inside or ([(("dinov2_adapter",), top)] if isinstance(top, Mapping) and top.get("type") == ADAPTER else [])


def shown(keys: Keys) -> str:
    """``model.img_neck`` or ``train_pipeline[3].type``."""
    return "".join(key if key.startswith("[") else f".{key}" for key in keys).lstrip(".")


def _whereabouts(config: TextConfig, keys: Keys) -> tuple[Path, int]:
    plain = [key for key in keys if not key.startswith("[")]
    line = line_of(config, *plain)
    if line and (len(plain) < 2 or at(config.own, *plain[:2]) is not None or not config.bases):
        return config.path, line
    for base in config.bases:
        found = _whereabouts(base, keys)
        if found[1]:
            return found
    return config.path, line
