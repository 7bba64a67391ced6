"""Copies of the reconstructed checkout: the tree in racdion/, our two configs, and the `.egg` that lay in its dist/."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TREE = Path(__file__).resolve().parent / "racdion"
CONFIGS = ("racformer_r50_nuimg_704x256_f8.py", "racformer_r50_nuimg_704x256_f8_with_dinov2_fixed.py")
EGG = "models/backbones/nets/ops/dist/MultiScaleDeformableAttention-1.0-py3.8-linux-x86_64.egg"
STEPS = (  # the record's five, as its user types them
    """python -c "import MultiScaleDeformableAttention; print('✅ 1/5')\"""",
    """python -c "from models.backbones import DinoAdapter; print('✅ 2/5')\"""",
    f"""python -c "from mmcv import Config; Config.fromfile('configs/{CONFIGS[1]}'); print('✅ 3/5')\"""",
    """python check_dinov2_setup.py && echo "✅ 4/5\"""",
    """python tools/verify_dinov2_config.py && echo "✅ 5/5\"""",
)


def copy(to: Path) -> Path:
    """A healthy checkout at ``to``, which must not exist yet."""
    shutil.copytree(TREE, to, ignore=shutil.ignore_patterns("__pycache__"))
    (to / "configs").mkdir()
    for name in CONFIGS:
        shutil.copy(ROOT / "configs" / name, to / "configs" / name)
    (to / EGG).parent.mkdir()
    with zipfile.ZipFile(to / EGG, "w") as egg:
        egg.writestr("EGG-INFO/PKG-INFO", "Metadata-Version: 1.0\nName: MultiScaleDeformableAttention\nVersion: 1.0\n")
    return to
