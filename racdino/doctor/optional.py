"""What training needs and importing, building and testing do not: weights and the data set."""

from __future__ import annotations

from pathlib import Path

from racdino.doctor.finding import Finding, Severity
from racdino.weights import search
from racdino.weights.catalogue import published

RESNET = "r50_nuimages"
DATA_ROOT = Path("data/nuscenes")
DATA_PARTS = ("maps", "samples", "sweeps", "v1.0-trainval", "nuscenes_infos_train_sweep.pkl")


def dinov2_weights(name: str = "dinov2_vitb14") -> Finding:
    """Are DINOv2's published weights in one of the folders that are searched?"""
    entry = published(name)
    path = search.find_or_none(entry)
    if path is None:
        folders = ", ".join(str(folder) for folder in search.search_folders())
        return Finding(
            "weights.dinov2",
            Severity.OPTIONAL,
            f"{entry.file} is in none of {folders}",
            f"racdino weights fetch {name}",
        )
    return Finding("weights.dinov2", Severity.OK, str(path))


def resnet_weights() -> Finding:
    """Is the ResNet-50 checkpoint that the configs' ``load_from`` names in place?"""
    path = Path("pretrain") / published(RESNET).file
    if not path.is_file():
        return Finding(
            "weights.resnet50",
            Severity.OPTIONAL,
            f"{path} is missing",
            f"racdino weights fetch {RESNET} --to {path.parent}",
        )
    return Finding("weights.resnet50", Severity.OK, str(path))


def data_set() -> Finding:
    """Is nuScenes under ``data/nuscenes`` with the infos the configs name?"""
    missing = [part for part in DATA_PARTS if not (DATA_ROOT / part).exists()]
    if missing:
        return Finding(
            "dataset.nuscenes",
            Severity.OPTIONAL,
            f"{DATA_ROOT} lacks {', '.join(missing)}",
            f"mkdir -p {DATA_ROOT.parent} && ln -s /path/to/nuscenes {DATA_ROOT}; then racdino data prepare",
        )
    return Finding("dataset.nuscenes", Severity.OK, str(DATA_ROOT))
