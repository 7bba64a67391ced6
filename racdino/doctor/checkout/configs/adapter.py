"""RD711 to RD714: the adapter's section is there, acts, and fits itself and its weights."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from racdino.doctor.check import Group, Problem, check
from racdino.doctor.checkout.configs.subject import ADAPTER, Found, adapters, at, configs_of, shown, whole
from racdino.doctor.checkout.configs.text_config import TextConfig
from racdino.doctor.checkout.subject import Checkout
from racdino.doctor.config_diff import differences
from racdino.doctor.unknown import Unknown

SIZES = {  # published weights: embed_dim, depth, num_heads
    "vits": (384, 12, 6),
    "vitb": (768, 12, 12),
    "vitl": (1024, 24, 16),
    "vitg": (1536, 40, 24),
}
_DEFAULTS: dict[str, Any] = {
    "num_heads": 12,
    "embed_dim": 768,
    "depth": 12,
    "patch_size": 14,
    "deform_num_heads": 6,
    "deform_ratio": 1.0,
    "interaction_indexes": [[0, 2], [3, 5], [6, 8], [9, 11]],
    "pretrained_vit": True,
    "pretrained": None,
}


@check(
    "RD711",
    Group.CONFIGS,
    "configs that are named after DINOv2 have the adapter",
    remedy="add dinov2_adapter = dict(type='DinoAdapter', ...) and model = dict(dinov2_adapter=dinov2_adapter)",
    of_checkout=True,
)
def adapter_is_there(checkout: Checkout) -> Iterator[Problem]:
    """A config whose name says DINOv2 and whose model has no `DinoAdapter` trains the plain detector without a word,
    and a `type` with another spelling stops at the registry. Both were seen in the copies of configs behind the
    integration record.

    Looked for: a section of type `DinoAdapter` anywhere in `model`, and the type of every section `dinov2_adapter`.
    """
    configs = configs_of(checkout)
    for name, config in configs.detectors.items():
        sections = [("dinov2_adapter",), ("model", "dinov2_adapter")]
        wrong = [keys for keys in sections if _other_type(at(config.values, *keys))]
        if wrong:
            kind = at(config.values, *wrong[-1], "type")
            yield Problem(
                f"{shown(wrong[-1])}.type is {kind!r}, not {ADAPTER!r}", place=configs.place(config, wrong[-1])
            )
        elif re.search("dino_?v?2", PurePosixPath(name).stem.lower()) and not adapters(config) and not config.notes:
            yield Problem(f"its name says DINOv2, and it has no section of type {ADAPTER}", place=name)


@check(
    "RD712",
    Group.CONFIGS,
    "what a config says at the top level is what its model has",
    remedy="change the section inside model = dict(...) too, or only there: training reads model",
    of_checkout=True,
)
def top_level_acts(checkout: Checkout) -> Iterator[Problem]:
    """mmcv merges a `_base_` that has been evaluated already: `img_backbone = dict(...)` in a config changes the
    top-level name and not the `model` into which the base has put its own. Training reads `model` alone, so the change
    does nothing, and nothing says so.

    Compared: each section that a config sets at its top level and that its model has too; and whether a top-level
    `dinov2_adapter` is in the model at all.
    """
    yield from configs_of(checkout).problems(_inactive)


def _inactive(config: TextConfig) -> Iterator[Found]:
    model = at(config.values, "model")
    if not isinstance(model, Mapping):
        return
    for name in config.own:
        section = at(config.values, name)
        if not isinstance(section, Mapping) or "type" not in section:
            continue
        if name in model:
            keys = [difference.key for difference in differences(section, model[name], (name,))]
            if keys:
                yield (name,), f"the top level and model disagree about {', '.join(keys[:8])}"
        elif name == "dinov2_adapter" and not adapters_in_model(config) and not config.open:
            yield (name,), "model has no dinov2_adapter, so that the section at the top level does nothing"


def adapters_in_model(config: TextConfig) -> bool:
    return any(keys[0] == "model" for keys, _ in adapters(config))


@check(
    "RD713",
    Group.CONFIGS,
    "the adapter's parameters fit together",
    remedy="take the numbers of one published size: S 384/12/6, B 768/12/12, L 1024/24/16, g 1536/40/24 "
    "(embed_dim/depth/num_heads), and interaction_indexes that name all blocks",
    of_checkout=True,
)
def parameters_fit(checkout: Checkout) -> Iterator[Problem]:
    """The transformer needs an `embed_dim` that its heads divide (and so does the deformable attention: ViT-L's 1024 is
    no multiple of the default 6 heads, 16 do), the groups of `interaction_indexes` must name all blocks in order, and
    DINOv2's weights exist for four sizes and patches of 14 pixels only. Each of these stops the model while it is
    built, some with a message about a tensor's shape.

    The original adapter told S from B by `num_heads` alone, so that `num_heads=6` with `embed_dim=768` loaded S's
    weights into B's shapes.
    """
    yield from configs_of(checkout).problems(_misfits)


def _misfits(config: TextConfig) -> Iterator[Found]:
    for keys, section in adapters(config):
        if any(isinstance(section.get(key), Unknown) for key in _DEFAULTS):
            continue
        for name, cause in misfits({**_DEFAULTS, **section}):
            yield (*keys, name), f"{shown(keys)}: {cause}"


def misfits(section: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(parameter, what is wrong) of a complete section."""
    for name in ("embed_dim", "num_heads", "depth", "deform_num_heads", "patch_size"):
        if whole(section, name) is None:
            yield name, f"{name} is {section[name]!r}, not a positive whole number"
            return
    width, heads, depth = section["embed_dim"], section["num_heads"], section["depth"]
    deform, ratio = section["deform_num_heads"], section["deform_ratio"]
    if width % heads:
        yield "num_heads", f"embed_dim {width} is no multiple of num_heads {heads}"
    elif section["pretrained_vit"] and (width, depth, heads) not in SIZES.values():
        yield "num_heads", f"there are no DINOv2 weights with embed_dim {width}, depth {depth}, num_heads {heads}"
    if isinstance(ratio, (int, float)) and 0 < ratio < 100 and (width % deform or int(width * ratio) % deform):
        yield "deform_num_heads", f"embed_dim {width} (times deform_ratio {ratio}) is no multiple of {deform} heads"
    if section["pretrained_vit"] and section["patch_size"] != 14:
        yield "patch_size", f"DINOv2's weights are for patches of 14 pixels, not of {section['patch_size']}"
    if not _covers(section["interaction_indexes"], depth):
        groups = section["interaction_indexes"]
        yield "interaction_indexes", f"interaction_indexes {groups} do not name the blocks 0 to {depth - 1} in order"


def _covers(groups: Any, depth: int) -> bool:
    if not isinstance(groups, Sequence) or depth > 1000:
        return False
    blocks: list[int] = []
    for group in groups:
        if not isinstance(group, (list, tuple)) or not group or not all(type(item) is int for item in group):
            return False
        if not -1 < group[0] <= group[-1] < depth:
            return False
        blocks += range(group[0], group[-1] + 1)
    return blocks == list(range(depth))


@check(
    "RD714",
    Group.CONFIGS,
    "the weights that a config names are of the adapter's size",
    remedy="name the weights of that size: `racdino weights list` has them",
    of_checkout=True,
)
def weights_fit(checkout: Checkout) -> Iterator[Problem]:
    """DINOv2's file names say their size: vits14, vitb14, vitl14, vitg14. S's weights in an adapter of B's width fail
    with a list of size mismatches (384 against 768), or load nothing where the loading is not strict.

    Compared: a `pretrained` with such a name, and `embed_dim`.
    """
    yield from configs_of(checkout).problems(_wrong_weights)


def _wrong_weights(config: TextConfig) -> Iterator[Found]:
    for keys, section in adapters(config):
        file, width = at(section, "pretrained"), section.get("embed_dim", 768)
        named = re.search(r"vit[sblg](?=14|_|\b)", file.rpartition("/")[2]) if isinstance(file, str) else None
        if named and isinstance(width, int) and SIZES[named.group()][0] != width:
            wanted = SIZES[named.group()][0]
            cause = f"{file} are weights of embed_dim {wanted}, and {shown(keys)} has {width}"
            yield (*keys, "pretrained"), cause


def _other_type(section: Any) -> bool:
    return (
        isinstance(section, Mapping) and section.get("type") != ADAPTER and not isinstance(section.get("type"), Unknown)
    )
