"""RD718: every type that a config names is a class somewhere."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from racdino.doctor.check import Group, Problem, check
from racdino.doctor.checkout.configs.subject import Found, Keys, at, configs_of, sections, shown
from racdino.doctor.checkout.configs.text_config import TextConfig
from racdino.doctor.checkout.subject import Checkout

_PACKAGES = ("mmcv", "mmdet", "mmdet3d", "mmseg", "racdino")
_NAMES = re.compile(r"^\s*class\s+(\w+)|register_module\(\s*(?:name\s*=\s*)?\[?['\"](\w+)['\"]", re.MULTILINE)
_QUOTED = re.compile(r"[\"'](\w+)[\"']")  # racdino and some checkouts register from tables of names
_OWN_REGISTRY = re.compile(r"_cfg$|^upsample$|^padding_mode$")  # norms, activations: registered by other means


@check(
    "RD718",
    Group.CONFIGS,
    "every type that a config names is a class in the checkout or in an installed package",
    remedy="correct the name, or add the file that defines and registers it, and import that in its package's __init__",
    of_checkout=True,
)
def types_exist(checkout: Checkout) -> Iterator[Problem]:
    """A type that nobody defines ends in "KeyError: 'X is not in the models registry'" (or pipeline registry); the
    messy config of the integration record named pipeline operators of another project.

    Looked for: each `type` in `model`, in the pipelines and in the hooks, among all classes and registered names in the
    text of mmcv, mmdet, mmdet3d, mmseg, racdino and the checkout. Nothing is imported. Silent where mmdet and mmdet3d
    are not installed, for then nothing can be said. That a class is imported at all is another check's, RD6xx.
    """
    installed = installed_names()
    if not installed:
        return
    sources = [file for file in checkout.files(".py") if not file.startswith("configs/")]
    own = {name for file in sources for name in names_in(checkout.text(file) or "", quoted=True)}

    def find(config: TextConfig) -> Iterator[Found]:
        if "custom_imports" in config.values:  # these register whatever they like
            return
        for keys, kind in _types(config):
            if kind not in installed and kind not in own:
                yield (*keys, "type"), f"{shown(keys)}.type is {kind!r}, which no class is called"

    yield from configs_of(checkout).problems(find)


def _types(config: TextConfig) -> Iterator[tuple[Keys, str]]:
    """Each type once, with the first place that names it."""
    data = at(config.values, "data")
    parts: list[tuple[Keys, Any]] = [(("model",), at(config.values, "model"))]
    parts += [(("data", split), at(data, split)) for split in ("train", "val", "test")]
    parts += [((name,), at(config.values, name)) for name in ("custom_hooks", "log_config")]
    seen: set[str] = set()
    for prefix, part in parts:
        others: list[Keys] = []  # sections whose own sections name classes of another library
        for keys, section in sections(part, prefix):
            kind = section.get("type")
            if not isinstance(kind, str) or kind in seen or any(keys[: len(outer)] == outer for outer in others):
                continue
            if kind == "Albu":
                others.append(keys)
            if kind.lower() != kind and not _is_registered_otherwise(keys):
                seen.add(kind)
                yield keys, kind.rpartition(".")[2]


def _is_registered_otherwise(keys: Keys) -> bool:
    """Norms and activations come from other registries; a type of ``dinov2_adapter`` is RD711's."""
    return keys[-1] == "dinov2_adapter" or any(_OWN_REGISTRY.search(key) for key in keys)


@lru_cache(maxsize=1)
def installed_names() -> frozenset[str]:
    """Classes and registered names in the installed packages; empty where mmdet or mmdet3d is missing."""
    folders = {name: _folder(name) for name in _PACKAGES}
    if folders["mmdet"] is None or folders["mmdet3d"] is None:
        return frozenset()
    return frozenset(name for folder in folders.values() if folder for name in _names_below(folder))


def _folder(package: str) -> Path | None:
    try:
        found = importlib.util.find_spec(package)  # of a top-level name: looks, imports nothing
    except (ImportError, ValueError):
        return None
    return Path(found.origin).parent if found and found.origin else None


def _names_below(folder: Path) -> Iterator[str]:
    for current, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in (".mim", "__pycache__")]
        for file in files:
            if file.endswith(".py"):
                text = (Path(current) / file).read_bytes().decode("utf-8", "replace")
                yield from names_in(text, quoted=folder.name == "racdino")


def names_in(text: str, quoted: bool = False) -> Iterator[str]:
    """Classes that a Python text defines and names that it registers; with ``quoted`` every name in quotes too."""
    for match in _NAMES.finditer(text):
        yield match.group(1) or match.group(2)
    if quoted:
        yield from _QUOTED.findall(text)
