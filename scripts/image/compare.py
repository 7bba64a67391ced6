"""Compare two exported images layer by layer: every entry, and the configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.image.archive import Archive, Entry, Layer

# (pattern, reason): a difference whose "PATH: KIND" the pattern matches whole is explained. Empty: none is known.
EXPLAINED: tuple[tuple[str, str], ...] = ()
_CONFIGURATION = "configuration"
_FIELDS = (
    ("type", "type"),
    ("mode", "mode"),
    ("owner", "owner"),
    ("target", "link target"),
    ("size", "size"),
    ("sha256", "content"),
    ("mtime", "mtime"),
    ("pax", "extended headers"),
)


@dataclass(frozen=True)
class LayerDifference:
    """One thing that two images do not share.

    layer: ``layer N``, counted from 1 at the base, or ``configuration``. kind: what differs. first, second: its values.
    reason: why it may differ; None where nothing explains it.
    """

    layer: str
    path: str
    kind: str
    first: str
    second: str
    reason: str | None

    def __str__(self) -> str:
        line = f"{self.layer}: {self.path}: {self.kind}: {self.first} | {self.second}"
        return f"{line} (explained: {self.reason})" if self.reason else line


def compare(first: Path, second: Path, explained: Sequence[tuple[str, str]] = EXPLAINED) -> list[LayerDifference]:
    """What differs between two exported images.

    A layer whose digest is the same in both configurations is the same, and is not read.

    Raises:
        ImageError: one of them is no exported image, or is damaged.
    """
    differences = []
    with Archive(first) as a, Archive(second) as b:
        ids_a, ids_b = a.config["rootfs"]["diff_ids"], b.config["rootfs"]["diff_ids"]
        for index in range(max(len(ids_a), len(ids_b))):
            if ids_a[index : index + 1] == ids_b[index : index + 1]:
                continue
            found = (
                _compare_layers(a.read_layer(index), b.read_layer(index))
                if index < min(len(ids_a), len(ids_b))
                else [("the whole layer", *_only(index < len(ids_a)))]
            )
            differences += [(f"layer {index + 1}", *one) for one in found]
        differences += [(_CONFIGURATION, *one) for one in _compare_configurations(a.config, b.config)]
    return [LayerDifference(*one, reason=_reason(one[1], one[2], explained)) for one in differences]


def _compare_layers(first: Layer, second: Layer) -> list[tuple[str, str, str, str]]:
    entries_a = {entry.path: entry for entry in first.entries}
    entries_b = {entry.path: entry for entry in second.entries}
    found = []
    for path in sorted(entries_a.keys() | entries_b.keys()):
        if path in entries_a and path in entries_b:
            found += list(_compare_entries(entries_a[path], entries_b[path]))
        else:
            found.append((path, *_only(path in entries_a)))
    if not found:  # the digests differ, so something must
        same_order = [e.path for e in first.entries] == [e.path for e in second.entries]
        kind = "encoding of the tar archive" if same_order else "order of the entries"
        found.append(("the whole layer", kind, first.diff_id, second.diff_id))
    return found


def _compare_entries(a: Entry, b: Entry) -> Iterator[tuple[str, str, str, str]]:
    for name, kind in _FIELDS:
        value_a, value_b = _shown(a, name), _shown(b, name)
        if value_a != value_b:
            yield (a.path, kind, value_a, value_b)


def _shown(entry: Entry, name: str) -> str:
    if name == "owner":
        return f"{entry.uid}:{entry.gid}"
    value = getattr(entry, name)
    return f"{value:04o}" if name == "mode" else str(value)


def _only(in_first: bool) -> tuple[str, str, str]:
    return ("only in one", "present", "absent") if in_first else ("only in one", "absent", "present")


def _compare_configurations(a: dict[str, Any], b: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    flat_a, flat_b = dict(_leaves(a)), dict(_leaves(b))
    return [
        (path, "value", flat_a.get(path, "absent"), flat_b.get(path, "absent"))
        for path in sorted(flat_a.keys() | flat_b.keys())
        # The layers' digests follow from what differs in the layers.
        if flat_a.get(path) != flat_b.get(path) and not path.startswith("rootfs.diff_ids")
    ]


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for number, item in enumerate(value):
            yield from _leaves(item, f"{path}[{number}]")
    else:
        yield path, str(value)


def _reason(path: str, kind: str, explained: Sequence[tuple[str, str]]) -> str | None:
    return next((reason for pattern, reason in explained if re.fullmatch(pattern, f"{path}: {kind}")), None)
