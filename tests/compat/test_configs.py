"""The two configs load anywhere without our code, differ in the adapter alone, and fit the R50 model's shapes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from mmcv import Config

from racdino.doctor.config_diff import differences

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
BASELINE = CONFIGS / "racformer_r50_nuimg_704x256_f8.py"
FIXED = CONFIGS / "racformer_r50_nuimg_704x256_f8_with_dinov2_fixed.py"


@pytest.fixture(scope="module")
def baseline() -> dict:
    return Config.fromfile(str(BASELINE))


def test_configs_load_from_any_directory_without_racdino(tmp_path):
    code = (
        "import sys; sys.modules['racdino'] = sys.modules['models'] = None\n"  # importing either now raises
        "from mmcv import Config\n"
        f"for path in {[str(p) for p in sorted(CONFIGS.glob('*.py'))]}: Config.fromfile(path)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)


def test_the_fixed_config_differs_from_the_baseline_by_the_adapter_alone():
    found = differences(Config.fromfile(str(BASELINE)).to_dict(), Config.fromfile(str(FIXED)).to_dict())
    assert {difference.key for difference in found} == {"dinov2_adapter", "model.dinov2_adapter"}


def test_the_legacy_config_differs_from_the_baseline_by_its_flags_alone(baseline):
    legacy = Config.fromfile(str(CONFIGS / "racformer_r50_nuimg_704x256_f8_legacy.py"))

    def without_flags(value):
        if isinstance(value, dict):
            return {key: without_flags(inner) for key, inner in value.items() if not key.startswith("legacy_")}
        return [without_flags(inner) for inner in value] if isinstance(value, (list, tuple)) else value

    assert without_flags(legacy._cfg_dict.to_dict()) == without_flags(baseline._cfg_dict.to_dict())
    assert len(set(re.findall(r"legacy_\w+", legacy.pretty_text))) == 8


def test_the_adapter_section_builds_the_adapter_of_the_registry():
    from mmdet.models.builder import build_backbone

    from racdino.openmmlab import DinoAdapter  # registers it

    section = {**Config.fromfile(str(FIXED)).model.dinov2_adapter, "pretrained_vit": False}
    small = {"embed_dim": 48, "num_heads": 2, "depth": 4, "interaction_indexes": [[0, 0], [1, 1], [2, 2], [3, 3]]}
    assert isinstance(build_backbone({**section, **small}), DinoAdapter)


# Shapes of the released model's parameters (its state dict, read once) against what the config says of them.
@pytest.mark.parametrize(
    ("expected", "read"),
    [
        pytest.param(
            (900, 10), lambda c: (c.model.pts_bbox_head.num_query, c.model.pts_bbox_head.code_size), id="queries"
        ),
        pytest.param(11, lambda c: c.model.pts_bbox_head.num_classes + 1, id="label_enc"),
        pytest.param(64, lambda c: c.model.radar_voxel_encoder.feat_channels[-1], id="pillar features"),
        pytest.param(13, lambda c: c.model.radar_voxel_encoder.in_channels + 6, id="pillar inputs with two offsets"),
        pytest.param([256, 512, 1024, 2048], lambda c: c.model.img_neck.in_channels, id="FPN laterals"),
        pytest.param([1024, 2048], lambda c: c.model.img_lss_neck.in_channels, id="LSS laterals"),
        pytest.param((96, 16, 44), lambda c: _frustum(c), id="frustum"),
        pytest.param(1536, lambda c: _scale_weights(c), id="scale_weights: 4 groups x frames x points x levels"),
        pytest.param((128, 128), lambda c: tuple(c.model.radar_middle_encoder.output_shape), id="BEV cells"),
        pytest.param((3, 5), lambda c: (c.img_depth_num, c.bev_depth_num), id="ray_points_offset"),
    ],
)
def test_the_baseline_fits_the_released_shapes(baseline, expected, read):
    assert read(baseline) == expected


def _frustum(config) -> tuple[int, ...]:
    view = config.model.img_lss_view_transformer
    height, width = view.input_size
    return int(view.grid_config.depth[2]), height // view.downsample, width // view.downsample


def _scale_weights(config) -> int:
    t = config.model.pts_bbox_head.transformer
    return 4 * t.num_frames * t.img_depth_num * t.num_points * t.num_levels
