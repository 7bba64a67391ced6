"""RD740: configs name no path of another machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from racdino.doctor.check import Group, Problem, check
from racdino.doctor.checkout.configs.subject import Found, Keys, configs_of, shown
from racdino.doctor.checkout.configs.text_config import TextConfig
from racdino.doctor.checkout.subject import Checkout

_PATHS = re.compile(r"(^|_)(root|file|path|dir|prefix|from|checkpoint|pretrained)$")


@check(
    "RD740",
    Group.CONFIGS,
    "configs name no absolute path that is missing here",
    remedy="write it relative to the checkout (data/nuscenes/, pretrain/...) and link the folder there: "
    "ln -s /path/to/nuscenes data/nuscenes",
    of_checkout=True,
)
def paths_exist(checkout: Checkout) -> Iterator[Problem]:
    """A path like `/home/user0/...` is right on one machine, and in no container. It fails after minutes, when the data
    set is opened or the weights are loaded.

    Looked at: every value under a key like `data_root`, `ann_file`, `load_from` or `pretrained` that begins with `/` or
    `~`. One line for each folder that is missing. Relative paths that are missing are RD801, RD810 and RD813.
    """
    yield from configs_of(checkout).problems(_missing)


def _missing(config: TextConfig) -> Iterator[Found]:
    places: dict[str, list[Keys]] = {}
    for keys, value in _strings(config.values):
        named = value[7:] if value.startswith("file://") else value
        if _PATHS.search(keys[-1]) and named.startswith(("/", "~")) and "\0" not in named:
            gone = _first_missing(os.path.expanduser(named))  # noqa: PTH111 - the text as it is
            if gone:
                places.setdefault(gone, []).append(keys)
    for gone, all_keys in places.items():
        more = f" and {len(all_keys) - 1} more" if len(all_keys) > 1 else ""
        yield all_keys[0], f"{shown(all_keys[0])}{more} lie in {gone}, which is not on this machine"


def _strings(value: Any, keys: Keys = ()) -> Iterator[tuple[Keys, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(item, (*keys, str(key)))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item, keys)
    elif isinstance(value, str) and keys:
        yield keys, value


def _first_missing(path: str) -> str:
    """The topmost part of ``path`` that is not there; empty where all is."""
    for part in [*reversed(Path(path).parents), Path(path)]:
        if not os.path.lexists(part):
            return str(part)
    return ""
