"""RD710: a config with the adapter is its baseline plus the adapter."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import racdino
from racdino.doctor.check import Group, Problem, check
from racdino.doctor.checkout.configs.subject import Configs, at, configs_of
from racdino.doctor.checkout.configs.text_config import ConfigReader, ConfigTextError, TextConfig
from racdino.doctor.checkout.subject import Checkout
from racdino.doctor.config_diff import ABSENT, Difference, differences
from racdino.doctor.finding import Severity
from racdino.doctor.mend.plan import CreateFile
from racdino.doctor.unknown import Unknown

_MOST_SHOWN = 40


@check(
    "RD710",
    Group.CONFIGS,
    "configs with the adapter change nothing but the adapter",
    remedy="begin a new config with _base_ = [the baseline] and give it the adapter's sections alone",
    mends=True,
    of_checkout=True,
)
def only_the_adapter_differs(checkout: Checkout) -> Iterator[Problem]:
    """Problem 5 of the integration record: the config with DINOv2 also had other pipeline operators, radar encoder
    dimensions, learning rate, batch size and loss weights, so that nothing it showed could be laid to the adapter, and
    some of it did not run.

    A config that has a section `dinov2_adapter` is compared key by key with its baseline: its `_base_`, else the config
    beside it whose name its own begins with, else RacDINO's of that name. Keys under a name that begins with `dinov2_`
    are the adapter's. `--fix` leaves the config as it is and writes `<name>_fixed.py` beside it, which is the baseline
    plus the adapter's keys; once there is such a file, what the first one changes is optional reading.
    """
    configs = configs_of(checkout)
    for name, config in configs.detectors.items():
        baseline = baseline_of(configs, name, config)
        foreign = foreign_keys(baseline, config) if baseline and _has_section(config) else []
        if baseline is None or not foreign:
            continue
        fixed = PurePosixPath(name).with_name(PurePosixPath(name).stem + "_fixed.py").as_posix()
        listed = "; ".join(f"{key.key}: {key.baseline} -> {key.value}" for key in foreign[:_MOST_SHOWN])
        more = f"; and {len(foreign) - _MOST_SHOWN} more" if len(foreign) > _MOST_SHOWN else ""
        cause = (
            f"{len(foreign)} keys that are not the adapter's differ from {configs.name(baseline.path)}: {listed}{more}"
        )
        if _is_sound(configs, fixed):
            yield Problem(cause, f"train with {fixed}", name, Severity.OPTIONAL)
            continue
        mend = _fixed_config(configs, fixed, baseline, config)
        remedy = f"`racdino doctor --fix` writes {fixed}, which is the baseline plus the adapter" if mend else ""
        yield Problem(cause, remedy, name, mend=mend)


def baseline_of(configs: Configs, name: str, config: TextConfig) -> TextConfig | None:
    """What ``config`` is a change of; None where nothing tells."""
    for base in config.bases:
        if "model" in base.values:
            return base
    stem = PurePosixPath(name).stem
    beside = [
        other
        for other in configs.detectors
        if PurePosixPath(other).parent == PurePosixPath(name).parent
        and stem.startswith(PurePosixPath(other).stem)
        and other != name
        and not _has_section(configs.detectors[other])
    ]
    if beside:
        return configs.detectors[max(beside, key=len)]
    return _ours(stem)


def _ours(stem: str) -> TextConfig | None:
    folder = Path(racdino.__file__).resolve().parents[1] / "configs"
    named = [path for path in folder.glob("*.py") if stem.startswith(path.stem) and path.stem != stem]
    try:
        return ConfigReader().read(max(named, key=lambda path: len(path.name))) if named else None
    except ConfigTextError:
        return None


def foreign_keys(baseline: TextConfig, config: TextConfig) -> list[Difference]:
    """Keys that differ and are not the adapter's."""
    unsure = baseline.open or config.open
    return [
        difference
        for difference in differences(baseline.values, config.values)
        if not difference.of_adapter and not (unsure and ABSENT in (difference.baseline, difference.value))
    ]


def _has_section(config: TextConfig) -> bool:
    return isinstance(at(config.values, "dinov2_adapter") or at(config.values, "model", "dinov2_adapter"), Mapping)


def _is_sound(configs: Configs, name: str) -> bool:
    config = configs.detectors.get(name)
    baseline = baseline_of(configs, name, config) if config else None
    return bool(config and baseline and _has_section(config) and not foreign_keys(baseline, config))


def _fixed_config(configs: Configs, name: str, baseline: TextConfig, config: TextConfig) -> CreateFile | None:
    inside = (configs.root / "configs") in baseline.path.parents
    taken = name in configs.loaded or name in configs.failed or name.endswith("_fixed_fixed.py")
    part = adapter_part(config.values)
    if not inside or taken or not part:
        return None
    base = PurePosixPath(os.path.relpath(baseline.path, (configs.root / name).parent)).as_posix()
    text = [
        f'"""{baseline.path.stem} plus the adapter.\n\nThe adapter is that of {config.path.stem}.\n"""\n',
        f'_base_ = ["./{base}"]\n',
    ]
    section = part.get("dinov2_adapter")
    if isinstance(section, dict) and at(part, "model", "dinov2_adapter") == section:
        model = {key: value for key, value in part["model"].items() if key != "dinov2_adapter"}
        part["model"] = {"dinov2_adapter": _Name("dinov2_adapter"), **model}
    text += [f"{key} = {written(value)}" for key, value in part.items()]
    return CreateFile(name, "\n".join(text) + "\n")


def adapter_part(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """The adapter's keys of a config, nested as they are; None where some are Unknown."""
    part: dict[str, Any] = {}
    for key, value in values.items():
        if str(key).startswith("dinov2_"):
            if _has_unknown(value):
                return None
            part[key] = value
        elif isinstance(value, Mapping):
            below = adapter_part(value)
            if below is None:
                return None
            if below:
                part[key] = below
    return part


class _Name(str):
    """A name that is written as it is."""


def written(value: Any, indent: int = 0) -> str:
    """``value`` as configs are written: dict(...) over several lines, all else as Python writes it."""
    if isinstance(value, _Name):
        return str(value)
    if isinstance(value, str) and repr(value) == f"'{value}'" and '"' not in value:
        return f'"{value}"'
    if not isinstance(value, dict):
        return repr(value)
    if not value:
        return "dict()"
    inner = " " * (indent + 4)
    named = all(isinstance(key, str) and key.isidentifier() for key in value)
    items = [f"{key}=" if named else f"{key!r}: " for key in value]
    lines = [f"{inner}{item}{written(value[key], indent + 4)}," for item, key in zip(items, value)]  # noqa: B905
    opening, closing = ("dict(", ")") if named else ("{", "}")
    return "\n".join([opening, *lines, " " * indent + closing])


def _has_unknown(value: Any) -> bool:
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return isinstance(value, Unknown) or any(map(_has_unknown, items))
