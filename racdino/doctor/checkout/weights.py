"""RD801 and RD802: the weights that configs name are there and whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from racdino.doctor.check import Group, Problem, check
from racdino.doctor.checkout.configs.adapter import SIZES
from racdino.doctor.checkout.configs.subject import adapters, at, configs_of, sections, whole
from racdino.doctor.checkout.configs.text_config import TextConfig
from racdino.doctor.checkout.subject import Checkout
from racdino.doctor.checkout.weight_files import defect
from racdino.doctor.finding import Severity
from racdino.weights.catalogue import CATALOGUE
from racdino.weights.search import search_folders


@check(
    "RD801",
    Group.DATA,
    "the weights that configs start from are there",
    severity=Severity.OPTIONAL,
    remedy="`racdino weights list` names the published ones, `racdino weights fetch NAME --to pretrain` gets one",
    of_checkout=True,
)
def weights_are_there(checkout: Checkout) -> Iterator[Problem]:
    """Training starts from a ResNet-50 that was trained on nuImages (`load_from`) and from DINOv2's weights, which are
    looked for in `pretrain` and `weight` of the checkout, `$RACDINO_WEIGHTS` and `~/.cache/dinov2`. Nothing is
    downloaded while a model is built, so a machine without network needs them in place before.

    Looked for: relative paths of `load_from`, `resume_from`, `pretrained` and `checkpoint` in each config, and the
    weights of each adapter with `pretrained_vit`. Optional, since importing, building and testing do without.
    """
    for path, (name, fetch) in _wanted(checkout).items():
        if not os.path.lexists(path):
            shown = os.path.relpath(path, checkout.root)
            remedy = f"racdino weights fetch {fetch} --to {os.path.dirname(shown) or '.'}" if fetch else ""  # noqa: PTH120
            yield Problem(f"{shown} is missing, which {name} starts from", remedy, name)


@check(
    "RD802",
    Group.DATA,
    "weights files are whole",
    remedy="delete the file and fetch it again: `racdino weights fetch NAME --to pretrain` checks what it gets",
    of_checkout=True,
)
def weights_are_whole(checkout: Checkout) -> Iterator[Problem]:
    """A download that was cut off, a log-in page saved as `.pth`, a git-lfs pointer: torch says "PytorchStreamReader
    failed reading zip archive" or "invalid load key, '<'" of all of these, or of one that was changed nothing at all.

    Looked at: the weights that configs name and everything in `pretrain` and `weight`: the first bytes, the directory
    of the zip archive, and of published files the size and (up to 512 MiB) the sha256. Nothing is unpickled.
    """
    for path in sorted({*_wanted(checkout), *_stored(checkout.root)}):
        wrong = defect(path) if os.path.lexists(path) else ""
        if wrong:
            shown = os.path.relpath(path, checkout.root)
            yield Problem(f"{shown} {wrong}", place=shown)


def _stored(root: Path) -> Iterator[Path]:
    for folder in ("pretrain", "weight"):
        try:
            paths = sorted((root / folder).iterdir())[:200]
        except OSError:
            continue
        yield from (path for path in paths if path.suffix in (".pth", ".pt"))


def _wanted(checkout: Checkout) -> dict[Path, tuple[str, str]]:
    """File to (the first config that wants it, the published name that fetches it)."""
    wanted: dict[Path, tuple[str, str]] = {}
    for name, config in configs_of(checkout).detectors.items():
        for file in _files(config):
            path = Path(checkout.root) / file
            fetch = next((entry.name for entry in CATALOGUE.values() if entry.file == path.name), "")
            wanted.setdefault(path, (name, fetch))
        for published in _dinov2(config):
            entry = CATALOGUE[published]
            places = [Path(checkout.root) / folder / entry.file for folder in _search_folders()]
            found = next((place for place in places if place.is_file()), places[0])
            wanted.setdefault(found, (name, published))
    return wanted


def _search_folders() -> list[Path]:
    try:
        return search_folders()
    except RuntimeError:  # a user without a home folder
        return [Path("pretrain"), Path("weight")]


def _files(config: TextConfig) -> Iterator[str]:
    """Relative paths; absolute ones that are missing are RD740's."""
    values = [at(config.values, key) for key in ("load_from", "resume_from")]
    for _, section in sections(at(config.values, "model")):
        values += [section.get("pretrained"), section.get("checkpoint")]
    for value in values:
        if isinstance(value, str) and value and "://" not in value and "\0" not in value and value[0] not in "/~":
            yield value


def _dinov2(config: TextConfig) -> Iterator[str]:
    for _, section in adapters(config):
        if section.get("pretrained_vit", True) is not True or section.get("pretrained") is not None:
            continue
        size = tuple(whole({"x": section.get(key, default)}, "x") for key, default in _SIZE)
        name = next((f"dinov2_{short}14" for short, known in SIZES.items() if known == size), None)
        registers = section.get("num_register_tokens", 0)
        if name and registers in (0, 4):
            yield name + ("_reg" if registers else "")


_SIZE = (("embed_dim", 768), ("depth", 12), ("num_heads", 12))
