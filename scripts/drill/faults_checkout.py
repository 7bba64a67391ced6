"""What goes wrong in a checkout's imports and files. What goes wrong in its configs is in faults_configs.py."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from scripts.drill.fault import Fault
from scripts.drill.tree import EGG

NETS = "models/backbones/nets"
ADAPTER = f"{NETS}/dino_v2_with_adapter"
VIT = f"{ADAPTER}/dino_v2/model/vision_transformer.py"
DINO_ADAPTER = f"{ADAPTER}/dino_v2_adapter/dinov2_adapter.py"
OP_FUNCTION = f"{NETS}/ops/functions/ms_deform_attn_func.py"
MERGE = (
    "<<<<<<< HEAD\nfrom .racformer import RaCFormer\n=======\nfrom .racformer import RaCFormer, Head\n>>>>>>> dino\n"
)


def replace(file: str, old: str, new: str) -> Callable[[Path], None]:
    """Write ``new`` wherever ``file`` has ``old``."""

    def break_it(copy: Path) -> None:
        text = (copy / file).read_text(encoding="utf-8")
        if old not in text:
            raise ValueError(f"{file} has no {old!r}")
        (copy / file).write_text(text.replace(old, new), encoding="utf-8")

    return break_it


def first(file: str, line: str) -> Callable[[Path], None]:
    """Put ``line`` before everything in ``file``, which is created where it is missing."""

    def break_it(copy: Path) -> None:
        old = (copy / file).read_text(encoding="utf-8") if (copy / file).exists() else ""
        (copy / file).write_text(f"{line}\n{old}", encoding="utf-8")

    return break_it


def write(file: str, content: bytes) -> Callable[[Path], None]:
    """Put ``content`` into ``file`` and nothing else."""

    def break_it(copy: Path) -> None:
        (copy / file).parent.mkdir(parents=True, exist_ok=True)
        (copy / file).write_bytes(content)

    return break_it


def both(*breaks: Callable[[Path], None]) -> Callable[[Path], None]:
    """One after the other."""

    def break_it(copy: Path) -> None:
        for part in breaks:
            part(copy)

    return break_it


def copy_backbone(copy: Path) -> None:
    """The adapter, copied to a file of its own that is imported as well."""
    text = (copy / DINO_ADAPTER).read_text(encoding="utf-8")
    text = text.replace("from ..dino_v2", "from .nets.dino_v2_with_adapter.dino_v2")
    text = text.replace("from .adapter_modules", "from .nets.dino_v2_with_adapter.dino_v2_adapter.adapter_modules")
    (copy / "models/backbones/dino_adapter.py").write_text(text, encoding="utf-8")
    first("models/backbones/__init__.py", "from . import dino_adapter")(copy)


def loop(copy: Path) -> None:
    """A module that is a link to itself."""
    (copy / "loaders/frames.py").unlink()
    (copy / "loaders/frames.py").symlink_to("frames.py")


def pipe(copy: Path) -> None:
    """A module that nobody can read to its end."""
    (copy / "loaders/frames.py").unlink()
    os.mkfifo(copy / "loaders/frames.py")


FAULTS = [
    Fault(
        "a package imports its own part without a dot",
        "RD601",
        replace(f"{ADAPTER}/__init__.py", "from .dino_v2_adapter import DinoAdapter", "from dino_v2_adapter import *"),
        mended=True,
    ),
    Fault(
        "`from dino_v2_adapter import __all__` in a package's `__init__`",
        "RD601",
        write(f"{ADAPTER}/__init__.py", b"from dino_v2_adapter import __all__\n"),
        mended=True,
        record=1,
    ),
    Fault(
        "absolute imports that make a cycle",
        "RD602",
        replace(VIT, "from ..layers import", "from nets.dino_v2_with_adapter.dino_v2.layers import"),
        mended=True,
        record=2,
    ),
    Fault(
        "a name imported from a package that is still being imported",
        "RD603",
        first(f"{NETS}/ops/modules/ms_deform_attn.py", "from models.backbones import DinoAdapter"),
    ),
    Fault(
        "an import of a module that is not there", "RD604", first("loaders/__init__.py", "from vod.frame import Frame")
    ),
    Fault(
        "an import of a name that is not there",
        "RD605",
        replace("models/backbones/__init__.py", "DinoAdapter\n", "DinoAdapter, DinoAdapterV2\n"),
    ),
    Fault("`__all__` names what is not defined", "RD606", first("loaders/samplers.py", '__all__ = ["Sampler"]')),
    Fault(
        "`sys.path` is edited",
        "RD607",
        first("train.py", "import sys\n\nsys.path.insert(0, 'models/backbones')\n"),
    ),
    Fault(
        "a package without `__init__.py`",
        "RD608",
        lambda copy: (copy / f"{ADAPTER}/dino_v2/__init__.py").unlink(),
        mended=True,
    ),
    Fault(
        "a package without the `__init__.py` that had its names",
        "RD608",
        lambda copy: (copy / f"{ADAPTER}/dino_v2/layers/__init__.py").unlink(),
    ),
    Fault("a merge left unfinished", "RD609", write("models/__init__.py", MERGE.encode())),
    Fault("a module in GBK that says it is UTF-8", "RD609", write("loaders/frames.py", "名 = 1\n".encode("gbk"))),
    Fault("a module that is a link to itself", "RD609", loop),
    Fault("a copied class registered twice", "RD610", copy_backbone),
    Fault(
        "a second copy of the backbone",
        "RD611",
        write("models/dino_v2.py", b"from torch import nn\n\n\nclass DinoVisionTransformer(nn.Module):\n    pass\n"),
    ),
    Fault("a module with the name of an installed package", "RD612", write("einops.py", b"rearrange = None\n")),
    Fault("a module with the name of one of Python's", "RD612", write("random.py", b"seed = 3\n")),
    Fault(
        "an `.egg` for another Python on `sys.path`",
        "RD620",
        first(OP_FUNCTION, f"import sys\n\nsys.path.insert(0, {EGG!r})\n"),
        record=3,
    ),
    Fault(
        "a compiled module for another Python",
        "RD621",
        both(
            first("models/__init__.py", "from .csrc import _sampling"),
            write("models/csrc/__init__.py", b""),
            write("models/csrc/_sampling.cpython-38-x86_64-linux-gnu.so", b"\x7fELF"),
        ),
    ),
    Fault("a name that Python no longer has", "RD630", first("loaders/frames.py", "from collections import Mapping")),
    Fault("a module that torch no longer has", "RD630", first("loaders/frames.py", "from torch._six import inf")),
    Fault(
        "an optional package imported without asking",
        "RD631",
        first("models/racformer.py", "from flash_attn.flash_attn_interface import flash_attn_func"),
    ),
    Fault(
        "a path of another machine in the code",
        "RD640",
        first("loaders/frames.py", 'ROOT = "/home/user0/derma/RACDION/data/nuscenes"'),
    ),
    Fault(
        "a shell script with the line ends of Windows", "RD641", write("dist_train.sh", b"#!/bin/bash\r\ntorchrun\r\n")
    ),
    Fault("a module that holds NUL characters", "RD609", write("loaders/frames.py", b"x = 1\n\0\0")),
    Fault("a named pipe in place of a module", "RD609", pipe),
    Fault(
        "a compiled operator at the top of the checkout",
        "RD620",
        write("MultiScaleDeformableAttention.cpython-310-x86_64-linux-gnu.so", b"\x7fELF"),
    ),
]
