"""What goes wrong in configs, with weights and with the data set."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from scripts.drill.fault import Fault
from scripts.drill.faults_data import FAULTS as DATA
from scripts.drill.tree import CONFIGS

BASELINE, FIXED = (f"configs/{name}" for name in CONFIGS)
MESSY = FIXED.replace("_fixed", "")
OPERATOR = "models/backbones/nets/ops/src/ms_deform_attn_cuda.cu"


def change(name: str, old: str, new: str) -> Callable[[Path], None]:
    """Replace ``old``, which the file must have, everywhere in ``name``."""

    def break_it(copy: Path) -> None:
        text = (copy / name).read_text(encoding="utf-8")
        if old not in text:
            raise ValueError(f"{name} has no {old!r}")
        (copy / name).write_text(text.replace(old, new), encoding="utf-8")

    return break_it


def add(name: str, text: str) -> Callable[[Path], None]:
    """Append ``text`` to ``name``, which is created where it is missing."""

    def break_it(copy: Path) -> None:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        with (copy / name).open("a", encoding="utf-8") as file:
            file.write(text)

    return break_it


def messy(copy: Path) -> None:
    """The config of the record: a copy of the baseline with the adapter and much that is not the adapter's."""
    text = (copy / BASELINE).read_text(encoding="utf-8")
    adapter = (copy / FIXED).read_text(encoding="utf-8")
    section = adapter[adapter.index("dinov2_adapter = dict(") : adapter.index("model = dict(")]
    text = text.replace("model = dict(\n", f"{section}model = dict(\n    dinov2_adapter=dinov2_adapter,\n")
    for old, new in (
        ("batch_size = 2", "batch_size = 4"),
        ("lr=4e-4", "lr=2e-4"),
        ('type="RandomTransformImage"', 'type="LoadPointsFromFile"'),
        ("feat_channels=[64]", "feat_channels=[96]"),
        ('PointPillarsScatter", in_channels=64', 'PointPillarsScatter", in_channels=96'),
        ('loss_bbox=dict(type="L1Loss", loss_weight=0.25)', 'loss_bbox=dict(type="L1Loss", loss_weight=0.5)'),
    ):
        if old not in text:
            raise ValueError(f"{BASELINE} has no {old!r}")
        text = text.replace(old, new)
    (copy / MESSY).write_text(
        re.sub(r"^load_from = .*$", "load_from = None", text, flags=re.MULTILINE), encoding="utf-8"
    )


def messy_alone(copy: Path) -> None:
    messy(copy)
    (copy / FIXED).unlink()


def without_padding(copy: Path) -> None:
    """The adapter as it was before anybody padded: every line that pads is gone."""
    for path in (copy / "models").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r"\b(F\.)?pad\(", "tuple((", text).replace("tuple((", "keep("), encoding="utf-8")


FAULTS = [
    Fault("a config with the adapter that also changes what is not the adapter's", "RD710", messy_alone, True, 5),
    Fault("the same beside a config that changes the adapter alone", "RD710", messy),
    Fault("a merge marker in a config", "RD701", add(FIXED, "<<<<<<< HEAD\n")),
    Fault("a name that a config has deleted before it reads it", "RD701", add(BASELINE, "again = pillar_size\n")),
    Fault("a _base_ that is not there", "RD702", change(FIXED, "./racformer_r50", "./baseline/racformer_r50")),
    Fault("configs that are each other's _base_", "RD702", add(BASELINE, f'_base_ = "{CONFIGS[1]}"\n')),
    Fault("a config that asks the environment", "RD703", add(BASELINE, "import os\nhost = os.environ['HOSTNAME']\n")),
    Fault("an adapter of a misspelt type", "RD711", change(FIXED, '"DinoAdapter"', '"DinoV2Adapter"')),
    Fault("a config named after DINOv2 without it", "RD711", add(MESSY, f'_base_ = "{CONFIGS[0]}"\n')),
    Fault(
        "an adapter at the top level that the model does not have",
        "RD712",
        change(FIXED, "model = dict(dinov2_adapter=dinov2_adapter)", ""),
    ),
    Fault(
        "a neck that is changed at the top level alone",
        "RD712",
        add("configs/racformer_narrow.py", f'_base_ = "{CONFIGS[0]}"\nimg_neck = dict(out_channels=128)\n'),
    ),
    Fault(
        "the heads of DINOv2-S on the width of B",
        "RD713",
        change(FIXED, "num_heads=12,\n    embed", "num_heads=6,\n    embed"),
    ),
    Fault("groups of blocks beyond the depth", "RD713", change(FIXED, "[9, 11]", "[9, 12]")),
    Fault(
        "a width that the deformable heads do not divide",
        "RD713",
        change(FIXED, "deform_num_heads=6", "deform_num_heads=7"),
    ),
    Fault(
        "weights of DINOv2-S for an adapter of B's size",
        "RD714",
        change(FIXED, "with_cp=False", 'with_cp=False, pretrained="pretrain/dinov2_vits14_pretrain.pth"'),
    ),
    Fault("an adapter that takes multiples of 14 only", "RD715", without_padding),
    Fault(
        "an operator that takes batches of 64 only", "RD716", add(OPERATOR, "AT_ASSERTM(batch % im2col_step_ == 0);\n")
    ),
    Fault(
        "an operator without half precision",
        "RD717",
        add(OPERATOR, 'AT_DISPATCH_FLOATING_TYPES(value.type(), "ms_deform_attn_forward_cuda", ([&] {}));\n'),
    ),
    Fault(
        "a pipeline operator that nobody defines", "RD718", change(BASELINE, "Loadnuradarpoints", "LoadRadarPillars")
    ),
    Fault(
        "more classes in the head than names",
        "RD720",
        change(BASELINE, "num_classes=len(class_names)", "num_classes=11"),
    ),
    Fault(
        "a radar encoder wider than its scatter", "RD721", change(BASELINE, "feat_channels=[64]", "feat_channels=[96]")
    ),
    Fault(
        "pillars of half the size on the same map",
        "RD722",
        change(BASELINE, "pillar_size = [0.8, 0.8", "pillar_size = [0.4, 0.4"),
    ),
    Fault(
        "fewer past frames than the model takes", "RD723", change(BASELINE, "sweeps_num=num_frames - 1", "sweeps_num=3")
    ),
    Fault(
        "a view transformer for another image size",
        "RD724",
        change(BASELINE, 'input_size=ida_aug_conf["final_dim"]', "input_size=(512, 1408)"),
    ),
    Fault("a learning rate that is a string", "RD730", change(BASELINE, "lr=4e-4", 'lr="4e-4"')),
    Fault("an optimizer without a learning rate", "RD730", change(BASELINE, "    lr=4e-4,\n", "")),
    Fault("hundreds of workers for each GPU", "RD731", change(BASELINE, "workers_per_gpu=4", "workers_per_gpu=999")),
    Fault("SyncBN in a config", "RD732", change(BASELINE, 'norm_cfg=dict(type="BN2d"', 'norm_cfg=dict(type="SyncBN"')),
    Fault(
        "a data path of another machine",
        "RD740",
        change(BASELINE, '"data/nuscenes/"', '"/home/user0/derma/RACDION/data/nuscenes/"'),
    ),
    *DATA,
]
