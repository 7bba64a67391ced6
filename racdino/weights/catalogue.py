"""The published weights: file, address and hash of each. Standard library only.

DINOv2: Oquab et al. 2023, arXiv:2304.07193; with registers: Darcet et al. 2023, arXiv:2309.16588. Apache-2.0.
ResNet-50 trained on nuImages: OpenMMLab's model zoo of mmdetection3d, the start of RaCFormer's configs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

_HOST = "https://dl.fbaipublicfiles.com/dinov2"
_NUIMAGES = "https://download.openmmlab.com/mmdetection3d/v0.1.0_models/nuimages_semseg"


@dataclass(frozen=True)
class Architecture:
    """What decides the names and shapes in a DINOv2 state dict (patch size 14, trained at 518x518)."""

    embed_dim: int
    depth: int
    num_heads: int
    ffn_layer: str = "mlp"
    num_register_tokens: int = 0


@dataclass(frozen=True)
class Published:
    """One published file of DINOv2 weights; ``size`` in bytes where it is known."""

    name: str
    sha256: str
    architecture: Architecture
    size: int | None = None

    @property
    def file(self) -> str:
        registers = self.architecture.num_register_tokens
        return self._model + (f"_reg{registers}" if registers else "") + "_pretrain.pth"

    @property
    def url(self) -> str:
        return f"{_HOST}/{self._model}/{self.file}"

    @property
    def _model(self) -> str:
        return self.name[: -len("_reg")] if self.name.endswith("_reg") else self.name  # Python 3.8 has no removesuffix


@dataclass(frozen=True)
class PublishedCheckpoint:
    """One published checkpoint of another model.

    OpenMMLab publishes of each file's sha256 the first eight digits alone, as the end of its name: ``sha256`` is these.
    """

    name: str
    folder: str
    file: str
    size: int | None = None

    @property
    def sha256(self) -> str:
        return self.file.rpartition("-")[2].partition(".")[0]

    @property
    def url(self) -> str:
        return f"{self.folder}/{self.file}"


Entry = Union[Published, PublishedCheckpoint]  # noqa: UP007 - the doctor reads this on Python 3.8, which has no |


def has_hash(entry: Entry, found: str) -> bool:
    """Whether a file with the sha256 ``found`` is ``entry``'s, as far as its hash is known."""
    return found.startswith(entry.sha256)


def shown_hash(entry: Entry) -> str:
    """What is known of the sha256 of ``entry``'s file, with an ellipsis where that is not all."""
    return entry.sha256 + ("" if isinstance(entry, Published) else "...")


_S, _B, _L = (384, 12, 6), (768, 12, 12), (1024, 24, 16)
_G = (1536, 40, 24, "swiglufused")

CATALOGUE: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Published(
            "dinov2_vits14",
            "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
            Architecture(*_S),
            88_283_115,
        ),
        Published(
            "dinov2_vits14_reg",
            "f433177089a681826f849f194ece3bb48f4d63fb38d32fc837e3dc7a4e5641fb",
            Architecture(*_S, num_register_tokens=4),
        ),
        Published(
            "dinov2_vitb14",
            "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
            Architecture(*_B),
            346_378_731,
        ),
        Published(
            "dinov2_vitb14_reg",
            "73182a088cf94833c94b1666d1c99e02fe87e2007bff57b564fb6206e25dba71",
            Architecture(*_B, num_register_tokens=4),
        ),
        Published(
            "dinov2_vitl14",
            "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
            Architecture(*_L),
        ),
        Published(
            "dinov2_vitl14_reg",
            "36e4deffbaef061a2576705b0c36f93621e2ae20bf6274694821b0b492551b51",
            Architecture(*_L, num_register_tokens=4),
        ),
        Published(
            "dinov2_vitg14",
            "baf8467e50af277596bbbafa06887c177ee899ab46033649c383577d7e9309d3",
            Architecture(*_G),
        ),
        Published(
            "dinov2_vitg14_reg",
            "746ecb8c6301c645c5c855be91687d274587d6e48fdaec4a729753160b34a283",
            Architecture(*_G, num_register_tokens=4),
        ),
        PublishedCheckpoint(
            "r50_nuimages",
            f"{_NUIMAGES}/cascade_mask_rcnn_r50_fpn_coco-20e_20e_nuim",
            "cascade_mask_rcnn_r50_fpn_coco-20e_20e_nuim_20201009_124951-40963960.pth",
        ),
    )
}


def published(name: str) -> Entry:
    """The entry called ``name``, e.g. ``dinov2_vitb14``; ValueError names the others."""
    try:
        return CATALOGUE[name]
    except KeyError:
        raise ValueError(f"there are no published weights called {name!r}; there are {', '.join(CATALOGUE)}") from None


def published_dinov2(name: str) -> Published:
    """The entry called ``name`` if it is one of DINOv2's, else ValueError."""
    entry = published(name)
    if isinstance(entry, Published):
        return entry
    raise ValueError(f"{name} are no weights of DINOv2")


def published_for(architecture: Architecture) -> Published:
    """The published weights that fit ``architecture``; ValueError when nobody published any."""
    backbones = [entry for entry in CATALOGUE.values() if isinstance(entry, Published)]
    for entry in backbones:
        if entry.architecture == architecture:
            return entry
    raise ValueError(
        f"no DINOv2 weights were published for {architecture}; give a file of your own as pretrained=PATH, "
        "ask for random weights with pretrained_vit=False, or choose the architecture of one of "
        + ", ".join(f"{e.name} {e.architecture}" for e in backbones)
    )
