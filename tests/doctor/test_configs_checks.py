"""What the checks of configs say in detail: their sentences, places, severities and the file that RD710 writes."""

from __future__ import annotations

import os
import time

import pytest

from racdino.doctor.check import CHECKS
from racdino.doctor.checkout import configs, data, infos, weights
from racdino.doctor.checkout.configs import baseline
from racdino.doctor.checkout.configs.adapter import misfits
from racdino.doctor.checkout.configs.text_config import ConfigReader
from racdino.doctor.checkout.subject import Checkout
from racdino.doctor.config_diff import differences
from racdino.doctor.finding import Severity
from scripts.drill import tree
from scripts.drill.faults_configs import BASELINE, FIXED, MESSY, add, change, messy, messy_alone
from scripts.drill.small_data import data_set

REGISTERED = (configs, data, infos, weights)  # by importing them


@pytest.fixture
def copy(tmp_path):
    return tree.copy(tmp_path / "RACDION")


def findings(root, code):
    return [finding for finding in CHECKS[code].findings(Checkout(root)) if finding.severity is not Severity.OK]


def finding(root, code):
    (only,) = findings(root, code)
    return only


def test_every_foreign_key_is_listed_with_both_values(copy):
    messy(copy)
    cause = finding(copy, "RD710").cause
    for part in (
        "batch_size: 2 -> 4",
        "optimizer.lr: 0.0004 -> 0.0002",
        "model.radar_voxel_encoder.feat_channels: [64] -> [96]",
        "model.pts_bbox_head.loss_bbox.loss_weight: 0.25 -> 0.5",
        "load_from: 'pretrain/",
        "data.train.pipeline[5].type: 'RandomTransformImage' -> 'LoadPointsFromFile'",
    ):
        assert part in cause
    assert "dinov2_adapter" not in cause


def test_a_sound_fixed_config_makes_it_optional(copy):
    messy(copy)
    assert finding(copy, "RD710").severity is Severity.OPTIONAL
    change(FIXED, "model = dict(", "batch_size = 9\nmodel = dict(")(copy)
    severities = [found.severity for found in findings(copy, "RD710")]
    assert severities == [Severity.ERROR, Severity.ERROR]
    assert all(found.mend is None for found in findings(copy, "RD710"))  # neither file is overwritten


def test_the_written_config_is_the_baseline_plus_the_adapter(copy):
    from mmcv import Config

    messy_alone(copy)
    mend = finding(copy, "RD710").mend
    assert mend.file == FIXED
    (copy / mend.file).write_text(mend.text, encoding="utf-8")
    loaded = Config.fromfile(str(copy / FIXED))._cfg_dict.to_dict()
    wanted = ConfigReader().read(copy / MESSY).values
    added = {difference.path[:2] for difference in differences(ConfigReader().read(copy / BASELINE).values, loaded)}
    assert added == {("dinov2_adapter",), ("model", "dinov2_adapter")}
    assert loaded["dinov2_adapter"] == loaded["model"]["dinov2_adapter"] == wanted["dinov2_adapter"]
    assert finding(copy, "RD710").severity is Severity.OPTIONAL


def test_written_values_are_read_back_as_they_were(tmp_path):
    values = {"a": {"b": [1, (2,), None], "c-d": {"e": "x'y"}, "f": {}}, "g": 1e-5}
    text = "\n".join(f"{key} = {baseline.written(value)}" for key, value in values.items())
    (tmp_path / "a.py").write_text(text, encoding="utf-8")
    assert ConfigReader().read(tmp_path / "a.py").values == values


def test_the_baseline_is_the_longest_name_that_begins_the_configs(copy):
    (copy / "configs" / "racformer_r50.py").write_text("model = dict(type='Other')", encoding="utf-8")
    messy(copy)
    assert BASELINE in finding(copy, "RD710").cause


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"embed_dim": 384, "num_heads": 6},
        {"embed_dim": 1024, "depth": 24, "num_heads": 16},
        {"embed_dim": 1024, "num_heads": 16, "deform_num_heads": 16},
        {"num_heads": 7},
        {"deform_num_heads": 5},
        {"deform_ratio": 0.5},
        {"deform_ratio": 0.3},
        {"interaction_indexes": [[0, 2], [3, 5], [6, 8]]},
        {"interaction_indexes": [[0, 2], [4, 5], [6, 8], [9, 11]]},
        {"interaction_indexes": [[0, 11]]},
        {"interaction_indexes": [[2, 0], [3, 11]]},
        {"depth": 4, "interaction_indexes": [[0, 0], [1, 1], [2, 2], [3, 3]]},
    ],
    ids=str,
)
def test_it_refuses_the_parameters_that_the_adapter_refuses(changed):
    try:
        import torch

        from racdino.backbones import DinoAdapter
    except ImportError as error:
        pytest.skip(f"racdino.backbones cannot be imported here: {error}")
    given = {
        **{"embed_dim": 768, "num_heads": 12, "depth": 12, "deform_num_heads": 6, "deform_ratio": 1.0},
        **{"interaction_indexes": [[0, 2], [3, 5], [6, 8], [9, 11]], "pretrained_vit": False, **changed},
    }
    try:
        with torch.device("meta"):
            DinoAdapter(**given)
    except (ValueError, AssertionError, RuntimeError):
        refused = True
    else:
        refused = False
    assert bool(list(misfits({"patch_size": 14, **given}))) is refused


def test_a_problem_of_the_baseline_is_reported_once_and_there(copy):
    change(BASELINE, "pillar_size = [0.8, 0.8", "pillar_size = [0.4, 0.4")(copy)
    assert finding(copy, "RD722").place.startswith(f"{BASELINE}:")


def test_a_path_that_exists_is_no_problem(copy, tmp_path):
    change(BASELINE, '"data/nuscenes/"', f'"{tmp_path}/"')(copy)
    places = [found.cause for found in findings(copy, "RD740")]
    assert all("nuscenes_infos" in cause for cause in places)  # the folder is there, the info files are not


def test_the_data_sets_folder(copy):
    assert finding(copy, "RD810").severity is Severity.OPTIONAL
    (copy / "data").mkdir()
    (copy / "data" / "NuScenes").mkdir()
    assert "NuScenes is there" in finding(copy, "RD810").cause
    (copy / "data" / "nuscenes").symlink_to("/mnt/nowhere/nuscenes")
    dangling = finding(copy, "RD810")
    assert dangling.severity is Severity.ERROR
    assert "/mnt/nowhere/nuscenes" in dangling.cause
    (copy / "data" / "nuscenes").unlink()
    (copy / "data" / "nuscenes").symlink_to("nuscenes")
    assert finding(copy, "RD810").severity is Severity.ERROR


def test_a_linked_data_set_is_looked_at(copy, tmp_path):
    data_set(tmp_path / "disk")
    (copy / "data").mkdir()
    (copy / "data" / "nuscenes").symlink_to(tmp_path / "disk" / "data" / "nuscenes")
    assert [findings(copy, code) for code in ("RD810", "RD811", "RD812", "RD813", "RD814")] == [[]] * 5


def test_configs_with_hostile_names_and_content_do_not_stop_the_others(copy):
    os.mkfifo(copy / "configs" / "pipe.py")
    (copy / "configs" / "loop.py").symlink_to("loop.py")
    (copy / "configs" / "zero.py").symlink_to("/dev/zero")
    (copy / "configs" / os.fsdecode(b"\xff\xfe.py")).write_bytes(b"x = (")
    (copy / "configs" / "binary.py").write_bytes(bytes(range(256)))
    (copy / "configs" / "large.py").write_bytes(b"x = 1\n" * 200_000)
    add(BASELINE, "import os\nos.abort()\n")(copy)
    start = time.monotonic()
    assert len(findings(copy, "RD701")) == 5
    assert {found.place for found in findings(copy, "RD703")} == {"configs/large.py", f"{BASELINE}:{lines(copy) - 1}"}
    assert time.monotonic() - start < 60


def lines(copy):
    return len((copy / BASELINE).read_text(encoding="utf-8").splitlines())


def test_a_thousand_configs_take_seconds(copy):
    text = (copy / FIXED).read_text(encoding="utf-8")
    for index in range(1000):
        (copy / "configs" / f"racformer_{index:04}_dinov2.py").write_text(text, encoding="utf-8")
    subject, start = Checkout(copy), time.process_time()
    for code, check in CHECKS.items():
        if code.startswith(("RD7", "RD8")) and not check.live:
            list(check.findings(subject))
    assert time.process_time() - start < 90
