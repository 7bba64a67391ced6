"""Step 5 names every foreign key of a config, and fails for that and for nothing optional."""

from __future__ import annotations

from pathlib import Path

import pytest

from racdino.doctor.config_checks import BASELINE, FIXED, main

ROOT = Path(__file__).resolve().parents[2]
HEAD = f"_base_ = [{str(ROOT / FIXED)!r}]\n"


@pytest.fixture
def verify(tmp_path, monkeypatch, capsys):
    """Run step 5 on a config of the given text (on the fixed one for None): (exit status, printed text)."""
    monkeypatch.chdir(tmp_path)  # and back afterwards: main moves to the project root
    monkeypatch.setenv("HOME", str(tmp_path))  # no weights in ~/.cache

    def run(text: str | None, *arguments: str) -> tuple[int, str]:
        (tmp_path / "mine.py").write_text(text or "")
        status = main(ROOT, [*([] if text is None else ["mine.py"]), *arguments])
        return status, capsys.readouterr().out

    return run


def test_the_fixed_config_passes_without_weights_and_data(verify):
    status, printed = verify(None)
    assert status == 0
    assert "optional  weights.dinov2" in printed
    assert "racdino weights fetch dinov2_vitb14" in printed
    assert "optional  dataset.nuscenes" in printed
    assert "equal to the baseline key by key" in printed


# The five changes that problem 5 of the record lists.
@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("train_pipeline = [dict(type='MyLoader')]", "train_pipeline[0].type: baseline 'LoadMultiViewImageFromFiles'"),
        (
            "model = dict(radar_voxel_encoder=dict(in_channels=9))",
            "model.radar_voxel_encoder.in_channels: baseline 7, here 9",
        ),
        ("optimizer = dict(lr=1e-4)", "optimizer.lr: baseline 0.0004, here 0.0001"),
        ("batch_size = 4", "batch_size: baseline 2, here 4"),
        (
            "model = dict(pts_bbox_head=dict(loss_cls=dict(loss_weight=3.0)))",
            "model.pts_bbox_head.loss_cls.loss_weight: baseline 2.0, here 3.0",
        ),
        ("load_from = None", "load_from: baseline 'pretrain/cascade_mask_rcnn_r50"),
    ],
    ids=["pipeline", "radar encoder", "learning rate", "batch size", "loss weight", "pretrained weights"],
)
def test_problem_five_is_named(verify, change, key):
    status, printed = verify(HEAD + change)
    assert status == 1
    assert key in printed


def test_all_of_problem_five_at_once_is_named_completely(verify):
    status, printed = verify(HEAD + "optimizer = dict(lr=1e-4)\nbatch_size = 4\nload_from = None\n")
    assert status == 1
    assert printed.count("ERROR     baseline.keys") == 3
    assert "3 of" in printed.splitlines()[-1]


@pytest.mark.parametrize(
    "change",
    ["dinov2_adapter = dict(with_cp=True)\nmodel = dict(dinov2_adapter=dict(with_cp=True))", "dinov2_note = 'mine'"],
)
def test_the_adapters_own_keys_are_free(verify, change):
    assert verify(HEAD + change)[0] == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("dinov2_adapter = dict(widht=1)", "unexpected keyword argument 'widht'"),
        ("dinov2_adapter = dict(num_heads=7)", "DinoAdapter refuses its parameters: embed_dim 768"),
        ("dinov2_adapter = dict(embed_dim=1024, num_heads=16)", "does not divide by deform_num_heads 6"),
        ("dinov2_adapter = dict(depth=24)", "all blocks from 0 to 23"),
        ("dinov2_adapter = dict(interaction_indexes=[[0, 2], [3, 5]])", "all blocks from 0 to 11"),
        ("dinov2_adapter = dict(interaction_indexes=[0, 1, 2, 3])", "DinoAdapter refuses its parameters"),
        ("dinov2_adapter = dict(num_heads='12')", "DinoAdapter refuses its parameters"),
        ("dinov2_adapter = dict(with_cp=True)", "the top level and model disagree about dinov2_adapter.with_cp"),
        ("img_backbone = dict(depth=101)", "the top level and model disagree about img_backbone.depth"),
        ("dinov2_adapter = dict(_delete_=True, type='Other')", "dinov2_adapter.type is 'Other'"),
        ("model = dict(img_backbone='r50')", "model.img_backbone"),
        ("optimizer = dict(_delete_=True, type='SGD')", "optimizer lacks its type or lr"),
        ("optimizer = dict(lr='fast')", "optimizer"),
    ],
)
def test_a_wrong_config_is_one_error_that_says_why(verify, change, sentence):
    status, printed = verify(HEAD + change)
    assert status == 1
    assert sentence in printed


def test_the_baseline_itself_lacks_the_adapter(verify):
    status, printed = verify(f"_base_ = [{str(ROOT / BASELINE)!r}]")
    assert status == 1
    assert "the config has no section dinov2_adapter" in printed


@pytest.mark.parametrize("text", ["model = dict(", "raise RuntimeError('no')", "_base_ = ['./gone.py']"])
def test_a_config_that_does_not_load_is_the_only_error(verify, text):
    status, printed = verify(text)
    assert status == 1
    assert printed.count("ERROR") == 1
    assert "does not load" in printed


def test_a_missing_config_is_named(verify):
    status, printed = verify(None, "gone.py")
    assert status == 1
    assert "There is no config at" in printed


def test_any_two_configs_can_be_compared(verify, tmp_path):
    (tmp_path / "other.py").write_text(HEAD + "batch_size = 4")
    assert verify(HEAD + "batch_size = 4", "--baseline", "other.py")[0] == 0
