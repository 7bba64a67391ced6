"""Where two configs differ, key by key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from racdino.doctor.unknown import Unknown

ABSENT = "(absent)"


@dataclass(frozen=True)
class Difference:
    """One key that differs.

    Attributes:
        path: keys and list positions from the root, e.g. ``("data", "train", "pipeline", "[3]", "type")``.
        baseline, value: ``repr`` of both sides, or ``(absent)``.
    """

    path: tuple[str, ...]
    baseline: str
    value: str

    @property
    def key(self) -> str:
        """The path as it is written in Python-like dotted form, ``data.train.pipeline[3].type``."""
        return "".join(part if part.startswith("[") else f".{part}" for part in self.path).lstrip(".")

    @property
    def of_adapter(self) -> bool:
        """True for keys under a name that starts with ``dinov2_``: the adapter and what is configured for it."""
        return any(part.startswith("dinov2_") for part in self.path)


def differences(baseline: Any, value: Any, path: tuple[str, ...] = ()) -> Iterator[Difference]:
    """Every leaf at which ``value`` differs from ``baseline``. Tuples and lists of equal items count as equal.

    What is Unknown on either side is not compared.
    """
    if isinstance(baseline, Unknown) or isinstance(value, Unknown):
        return
    if isinstance(baseline, Mapping) and isinstance(value, Mapping):
        for key in [*baseline, *(key for key in value if key not in baseline)]:
            here = (*path, str(key))
            if key not in value:
                yield Difference(here, _brief(baseline[key]), ABSENT)
            elif key not in baseline:
                yield Difference(here, ABSENT, _brief(value[key]))
            else:
                yield from differences(baseline[key], value[key], here)
    elif _is_list(baseline) and _is_list(value):
        yield from _list_differences(baseline, value, path)
    elif baseline != value:
        yield Difference(path, _brief(baseline), _brief(value))


def _list_differences(baseline: Sequence, value: Sequence, path: tuple[str, ...]) -> Iterator[Difference]:
    """Align by ``type`` (pipelines, hooks), so that one inserted operator does not make all after it differ."""
    if not any(isinstance(item, (Mapping, list, tuple, Unknown)) for item in (*baseline, *value)):
        if list(baseline) != list(value):
            yield Difference(path, _brief(baseline), _brief(value))
        return
    matcher = SequenceMatcher(None, [_kind(item) for item in baseline], [_kind(item) for item in value], autojunk=False)
    for _, i1, i2, j1, j2 in matcher.get_opcodes():
        both = min(i2 - i1, j2 - j1)
        for i, j in zip(range(i1, i1 + both), range(j1, j1 + both)):  # noqa: B905  (equal lengths by construction)
            yield from differences(baseline[i], value[j], (*path, f"[{j}]"))
        for i in range(i1 + both, i2):
            yield Difference((*path, f"[{i}]"), _brief(baseline[i]), ABSENT)
        for j in range(j1 + both, j2):
            yield Difference((*path, f"[{j}]"), ABSENT, _brief(value[j]))


def _is_list(item: Any) -> bool:
    return isinstance(item, (list, tuple))


def _kind(item: Any) -> str:
    return str(item.get("type")) if isinstance(item, Mapping) else type(item).__name__


def _brief(item: Any, width: int = 60) -> str:
    text = repr(item)
    return text if len(text) <= width else f"{text[: width - 3]}..."
