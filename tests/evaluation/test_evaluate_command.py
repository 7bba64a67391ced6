"""racdino/openmmlab/evaluate.py: from config and checkpoint to metrics, or to one sentence and a status."""

from __future__ import annotations

import json
import pickle

import pytest
import torch

pytest.importorskip("mmdet3d", reason="needs the OpenMMLab packages of the pinned environment")

from racdino.data.info import read_infos
from racdino.openmmlab.evaluate import evaluate_model, main


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_true_boxes_score_one_with_speed_and_files(config, checkpoint, tmp_path, capsys):
    assert run(config(), checkpoint, "--work-dir", tmp_path / "out") == 0
    out = capsys.readouterr().out
    assert "epoch_7.pth is of epoch 7." in out
    assert "synthetic" in out
    assert "mini_val, 2 samples: NDS 0." in out
    assert "FPS" in out
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["mAP"] == pytest.approx(1, abs=1e-9)
    assert metrics["synthetic"] is True
    assert metrics["version"] == "v1.0-mini"
    assert metrics["speed"]["batches"] + metrics["speed"]["warm_up"] == 2
    assert metrics["speed"]["model"]["median"] > 0
    assert metrics["speed"]["with_loading"]["median"] > metrics["speed"]["model"]["median"]
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["metrics.json", "metrics_summary.json", "results_nusc.json"]


def test_training_samples_are_evaluated_as_mini_train_without_augmentation(config, checkpoint, tmp_path, capsys):
    options = (config(), checkpoint, "--split", "train", "--work-dir", tmp_path / "out", "--batch-size", 2)
    assert run(*options) == 0
    assert "mini_train, 2 samples: NDS 0." in capsys.readouterr().out
    assert json.loads((tmp_path / "out/metrics.json").read_text())["mAP"] == pytest.approx(1, abs=1e-9)
    assert json.loads((tmp_path / "out/metrics.json").read_text())["speed"]["batch_size"] == 2


def test_results_only_writes_a_submission_without_the_tables(config, checkpoint, rendered, tmp_path):
    out = tmp_path / "out"
    assert run(config(), checkpoint, "--split", "test", "--results-only", "--work-dir", out) == 0
    assert sorted(path.name for path in out.iterdir()) == ["metrics.json", "results_nusc.json"]
    results = json.loads((out / "results_nusc.json").read_text())["results"]
    infos = read_infos(rendered / "nuscenes_infos_val_mini_sweep.pkl")
    assert set(results) == {info["token"] for info in infos}
    assert "mAP" not in json.loads((out / "metrics.json").read_text())


def test_a_detector_that_finds_nothing_scores_zero(config, checkpoint, tmp_path, capsys):
    assert run(config(nothing=True), checkpoint, "--work-dir", tmp_path / "out") == 0
    assert "NDS 0.0000  mAP 0.0000" in capsys.readouterr().out


def test_a_nan_is_refused_with_its_sample(config, checkpoint, rendered, tmp_path, capsys):
    assert run(config(nan=True), checkpoint, "--work-dir", tmp_path / "out") == 1
    first = min(read_infos(rendered / "nuscenes_infos_val_mini_sweep.pkl"), key=lambda info: info["timestamp"])
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"racdino eval: Sample {first['token']}: 1 of ")
    assert not list((tmp_path / "out").glob("*"))


def test_a_part_of_a_split_is_refused_after_the_results_are_written(config, checkpoint, tmp_path, capsys):
    options = ("--cfg-options", "data.val.load_interval=2", "--work-dir", tmp_path / "out")
    assert run(config(), checkpoint, *options) == 1
    assert "lacks 1 of its 2 samples" in capsys.readouterr().err


def test_a_test_set_without_ground_truth_needs_results_only(config, checkpoint, rendered, tmp_path, capsys):
    with (rendered / "nuscenes_infos_val_mini_sweep.pkl").open("rb") as file:
        content = pickle.load(file)
    content["metadata"]["version"] = "v1.0-test"
    file_of_test = tmp_path / "nuscenes_infos_test_sweep.pkl"
    file_of_test.write_bytes(pickle.dumps(content, 4))
    options = ("--split", "test", "--cfg-options", f"data.test.ann_file={file_of_test}")
    assert run(config(), checkpoint, *options) == 2
    assert "--results-only" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({"state_dict": {"other": torch.ones(2)}}, "1 missing (scale); 1 unexpected (other)"),
        ({"state_dict": {"scale": torch.ones(2)}}, "1 of another shape (scale (2,) instead of (1,))"),
        ({"state_dict": {"scale": torch.tensor([torch.nan])}}, "NaN or infinity in 1 tensors (scale)"),
        ({"version": "v0.17.1", "state_dict": {"scale": torch.ones(1)}}, "mmdet3d v0.17.1"),
        ([1, 2], "no state dict"),
    ],
    ids=["names", "shape", "nan", "old boxes", "no weights"],
)
def test_a_wrong_checkpoint_is_one_sentence(config, tmp_path, capsys, content, what):
    torch.save(content, tmp_path / "wrong.pth")
    assert run(config(), tmp_path / "wrong.pth") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert what in error
    assert "wrong.pth" in error


def test_missing_files_and_arguments_are_named(config, checkpoint, tmp_path, capsys):
    path = config()
    for arguments, what in (
        ((tmp_path / "none.py", checkpoint), "none.py"),
        ((path, tmp_path / "none.pth"), "none.pth"),
        ((path,), "Which checkpoint"),
        ((), "Which config"),
        ((path, checkpoint, "--cfg-options", f"data.val.ann_file={tmp_path}/none.pkl"), "none.pkl"),
    ):
        assert run(*arguments) == 2
        assert what in capsys.readouterr().err


def test_upstreams_way_to_name_config_and_checkpoint_works(config, checkpoint, tmp_path):
    options = ("--config", config(), "--weights", checkpoint, "--batch_size", 1, "--work-dir", tmp_path / "out")
    assert run(*options) == 0


def test_training_gets_metrics_that_are_plain_data(config, checkpoint, tmp_path):
    import oracle
    from mmcv import Config

    read = Config.fromfile(str(config()))
    model = oracle.Oracle(read.model.folder)
    model.scale.data.fill_(1)
    metrics = evaluate_model(model, read, tmp_path / "eval")
    assert json.loads(json.dumps(metrics, allow_nan=False))["mAP"] == pytest.approx(1, abs=1e-9)
    assert 0.9 < metrics["NDS"] <= 1


def test_two_processes_write_the_submission_of_one(config, tmp_path, monkeypatch):
    import oracle
    from mmcv import Config

    from racdino.training import processes

    read = Config.fromfile(str(config()))
    model = oracle.Oracle(read.model.folder)
    evaluate_model(model, read, tmp_path / "one")
    shares = {}
    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(processes, "of_process_0", lambda value: value)
    for rank in (1, 0):

        def exchange(found, rank=rank):
            shares[rank] = found
            return [shares.get(0, [None]), shares[1]]

        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(processes, "of_all", exchange)
        metrics = evaluate_model(model, read, tmp_path / "two")
        assert bool(metrics) == (rank == 0)
        assert (tmp_path / "two").exists() == (rank == 0)
    assert [len(shares[rank]) for rank in (0, 1)] == [1, 1]
    one, two = ((tmp_path / name / "results_nusc.json").read_bytes() for name in ("one", "two"))
    assert one == two
