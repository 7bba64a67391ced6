"""Behind ``python tools/verify_dinov2_config.py [CONFIG]``: is this config the baseline plus the adapter, and sound?"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from racdino.doctor import optional
from racdino.doctor.config_diff import differences
from racdino.doctor.finding import Finding, Severity, report

BASELINE = Path("configs/racformer_r50_nuimg_704x256_f8.py")
FIXED = Path("configs/racformer_r50_nuimg_704x256_f8_with_dinov2_fixed.py")


def main(root: Path, argv: list[str] | None = None) -> int:
    """Check the config named in ``argv`` (default: the fixed one of ``root``); return the exit status."""
    parser = argparse.ArgumentParser(
        prog="verify_dinov2_config",
        description="Check that a config is the baseline plus the DINOv2 adapter and nothing else.",
    )
    parser.add_argument("config", nargs="?", type=Path, default=root / FIXED, help="mmcv config (default: %(default)s)")
    parser.add_argument(
        "--baseline", type=Path, default=root / BASELINE, help="what to compare with (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    config, baseline = arguments.config.absolute(), arguments.baseline.absolute()
    os.chdir(root)  # weights and data are looked for where training runs
    print(f"config    {config}\nbaseline  {baseline}")
    return report("verify_dinov2_config", config_findings(config, baseline))


def config_findings(config_path: Path, baseline_path: Path) -> Iterator[Finding]:
    """All checks of one config, in order; a config that does not load is the only finding then."""
    loaded = []
    for code, path in (("config.load", config_path), ("config.baseline", baseline_path)):
        finding, config = load(code, path)
        yield finding
        loaded.append(config)
    config, baseline = loaded
    if config is None or baseline is None:
        return
    yield adapter_section(config)
    yield from parameters(config)
    yield same_in_model(config, "dinov2_adapter")
    yield same_in_model(config, "img_backbone")
    yield optimizer(config)
    yield from only_the_adapter_differs(baseline, config)
    yield optional.dinov2_weights()
    yield optional.resnet_weights()
    yield optional.data_set()


def load(code: str, path: Path) -> tuple[Finding, dict[str, Any] | None]:
    """The config as a dict, or None with the reason in the finding."""
    try:
        from racdino.openmmlab.configs import ConfigError, read_config
    except ImportError as error:
        return Finding(code, Severity.ERROR, f"configs cannot be read: {error}", "make setup"), None
    try:
        return Finding(code, Severity.OK, f"{path.name} loads"), read_config(path)
    except ConfigError as error:
        return Finding(code, Severity.ERROR, str(error), "correct that file, or name another"), None


def adapter_section(config: Mapping[str, Any]) -> Finding:
    """Is there a section ``dinov2_adapter`` of type ``DinoAdapter``?"""
    section = config.get("dinov2_adapter")
    remedy = f"begin with _base_ = ['{BASELINE.name}'] and dinov2_adapter = dict(type='DinoAdapter', ...) as in {FIXED}"
    if not isinstance(section, Mapping):
        return Finding("adapter.section", Severity.ERROR, "the config has no section dinov2_adapter", remedy)
    if section.get("type") != "DinoAdapter":
        cause = f"dinov2_adapter.type is {section.get('type')!r}, not 'DinoAdapter'"
        return Finding("adapter.section", Severity.ERROR, cause, remedy)
    return Finding("adapter.section", Severity.OK, "dinov2_adapter of type DinoAdapter")


def parameters(config: Mapping[str, Any]) -> Iterator[Finding]:
    """Does the adapter take its parameters, and do they fit together? It is built without memory or weights."""
    section = config.get("dinov2_adapter")
    if not isinstance(section, Mapping):
        return
    try:
        import torch

        from racdino.backbones import DinoAdapter

        given = {key: value for key, value in section.items() if key not in {"type", "pretrained"}}
        with torch.device("meta"):
            adapter = DinoAdapter(**{**given, "pretrained_vit": False})
    except ImportError as error:
        yield Finding("adapter.parameters", Severity.ERROR, str(error), "./fix_dinov2_import.sh")
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        cause = f"DinoAdapter refuses its parameters: {error}"
        yield Finding("adapter.parameters", Severity.ERROR, cause, "compare with racdino/backbones/dino_adapter.py")
    else:
        total = sum(p.numel() for p in adapter.parameters()) / 1e6
        trained = sum(p.numel() for p in adapter.parameters() if p.requires_grad) / 1e6
        size = f"embed_dim {adapter.embed_dim}, {len(adapter.blocks)} blocks"
        cause = f"{size}, {total:.1f} M parameters, {trained:.1f} M of them trained"
        yield Finding("adapter.parameters", Severity.OK, cause)


def same_in_model(config: Mapping[str, Any], name: str) -> Finding:
    """A top-level section acts only through ``model``: changing it under ``_base_`` alone does nothing."""
    model = config.get("model")
    inside = model.get(name) if isinstance(model, Mapping) else None
    if inside is None:
        return Finding(f"model.{name}", Severity.ERROR, f"model has no {name}", f"add model = dict({name}={name})")
    if name in config and list(differences(config[name], inside)):
        keys = ", ".join(difference.key for difference in differences(config[name], inside, (name,)))
        cause = f"the top level and model disagree about {keys}; training reads model"
        return Finding(f"model.{name}", Severity.ERROR, cause, f"change model.{name} as well, or neither")
    kind = inside.get("type") if isinstance(inside, Mapping) else inside
    return Finding(f"model.{name}", Severity.OK, f"{kind}, the same at the top level and in model")


def optimizer(config: Mapping[str, Any]) -> Finding:
    """Is there an optimizer with a type and a learning rate?"""
    section = config.get("optimizer")
    if not isinstance(section, Mapping) or not {"type", "lr"} <= set(section):
        return Finding(
            "optimizer", Severity.ERROR, "optimizer lacks its type or lr", f"inherit it from {BASELINE.name}"
        )
    if not isinstance(section["lr"], (int, float)):
        cause = f"optimizer.lr is {section['lr']!r}, not a number"
        return Finding("optimizer", Severity.ERROR, cause, f"inherit it from {BASELINE.name}")
    cause = f"{section['type']}, lr {section['lr']:g}, weight decay {section.get('weight_decay', 0)}"
    return Finding("optimizer", Severity.OK, cause)


def only_the_adapter_differs(baseline: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[Finding]:
    """One ERROR for each key that differs from the baseline without belonging to the adapter."""
    found = list(differences(baseline, config))
    foreign = [difference for difference in found if not difference.of_adapter]
    for difference, following in zip_longest(foreign, foreign[1:]):
        section = difference.path[0]
        last_of_section = following is None or following.path[0] != section
        yield Finding(
            "baseline.keys",
            Severity.ERROR,
            f"{difference.key}: baseline {difference.baseline}, here {difference.value}",
            f"leave {section} to _base_, or try it in a config of its own without the adapter"
            if last_of_section
            else "",
        )
    if not foreign:
        added = ", ".join(difference.key for difference in found) or "nothing"
        yield Finding("baseline.keys", Severity.OK, f"equal to the baseline key by key; the adapter adds {added}")
