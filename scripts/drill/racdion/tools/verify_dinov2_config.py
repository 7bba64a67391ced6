"""Step 5 of the record: the config adds the adapter to the baseline."""

from mmcv import Config

BASELINE = "configs/racformer_r50_nuimg_704x256_f8.py"
baseline = Config.fromfile(BASELINE)
config = Config.fromfile(BASELINE.replace(".py", "_with_dinov2_fixed.py"))
changed = {key for key in config if key not in {"dinov2_adapter", "model"} and config[key] != baseline.get(key)}
assert config.dinov2_adapter.type == "DinoAdapter", config.dinov2_adapter
assert not changed, f"changed as well: {changed}"
print("✅ the baseline plus the adapter")
