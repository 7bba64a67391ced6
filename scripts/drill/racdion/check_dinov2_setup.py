"""Step 4 of the record: every part of the integration imports."""

import importlib

for name in ("torch", "mmcv", "mmdet", "mmdet3d", "MultiScaleDeformableAttention", "models.backbones", "loaders"):
    importlib.import_module(name)
    print(f"✅ {name}")
