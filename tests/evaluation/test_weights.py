"""racdino/evaluation/weights.py: all of a checkpoint fits and is loaded, or nothing is."""

from __future__ import annotations

import os

import pytest
import torch
from torch import nn

from racdino.evaluation.weights import load_detector as load_for_classes
from racdino.weights.checkpoint import CheckpointError

CLASSES = ["car", "truck", "bus"]


def load_detector(model, path):
    return load_for_classes(model, path, CLASSES)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


@pytest.fixture
def weights(model) -> dict[str, torch.Tensor]:
    return {name: torch.full_like(value, 2) for name, value in model.state_dict().items()}


def saved(tmp_path, content):
    torch.save(content, tmp_path / "some.pth")
    return tmp_path / "some.pth"


def has(model, weights):
    return all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapped", [True, False], ids=["checkpoint", "bare"])
def test_weights_are_loaded_from_a_checkpoint_a_bare_dict_and_a_parallel_run(tmp_path, model, weights, prefix, wrapped):
    state = {prefix + name: value for name, value in weights.items()}
    load_detector(model, saved(tmp_path, {"state_dict": state} if wrapped else state))
    assert has(model, weights)


def test_a_checkpoint_of_upstream_names_its_convention_and_epoch(tmp_path, model, weights):
    content = {"version": "v1.0.0", "meta": {"epoch": 36, "iter": 63288}, "state_dict": weights}
    assert load_detector(model, saved(tmp_path, content)) == ["some.pth is of epoch 36."]
    assert has(model, weights)


def test_of_a_run_with_averages_the_averages_are_taken_and_it_is_said(tmp_path, model, weights):
    training = {name: torch.zeros_like(value) for name, value in weights.items()}
    content = {"state_dict": weights, "training_state_dict": training, "average": {"updates": 120}}
    assert load_detector(model, saved(tmp_path, content)) == ["Its weights are averages (EMA) over 120 updates."]
    assert has(model, weights)


def test_of_mmcvs_ema_hook_the_averages_are_taken(tmp_path, model, weights):
    """The hook itself writes the checkpoint, as a run with it does."""
    from mmcv.runner import EMAHook

    class Runner:
        pass

    runner = Runner()
    runner.model, runner.iter = model, 0
    hook = EMAHook(momentum=0.5, interval=1)
    hook.before_run(runner)
    before = {name: value.clone() for name, value in model.named_parameters()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    hook.after_train_iter(runner)
    hook.after_train_epoch(runner)
    path = saved(tmp_path, {"state_dict": model.state_dict()})
    assert any(name.startswith("ema_") for name in model.state_dict())
    other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    assert load_detector(other, path) == ["Its weights are averages (EMA)."]
    moved = {name: value - before[name] for name, value in other.named_parameters()}
    assert all(value.min() > 0 and value.max() < 1 for value in moved.values())


def test_complaints_are_short_and_complete_and_leave_the_model(tmp_path, model, weights):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    del weights["2.bias"]
    weights["0.weight"] = torch.ones(5, 3)
    weights.update({f"extra{number}": torch.ones(1) for number in range(9)})
    with pytest.raises(CheckpointError) as raised:
        load_detector(model, saved(tmp_path, {"state_dict": weights}))
    text = str(raised.value)
    assert "1 missing (2.bias)" in text
    assert "9 unexpected (extra0, extra1, extra2, ...)" in text
    assert "1 of another shape (0.weight (5, 3) instead of (4, 3))" in text
    assert len(text.splitlines()) == 1
    assert has(model, before)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_named(tmp_path, model, weights, value):
    weights["1.weight"][2] = value
    with pytest.raises(CheckpointError, match=r"NaN or infinity in 1 tensors \(1\.weight\)"):
        load_detector(model, saved(tmp_path, {"state_dict": weights}))


def test_the_old_box_convention_is_refused(tmp_path, model, weights):
    with pytest.raises(CheckpointError, match=r"mmdet3d v0\.17\.1 .*before v1\.0"):
        load_detector(model, saved(tmp_path, {"version": "v0.17.1", "state_dict": weights}))


def test_classes_in_another_order_are_refused_and_the_same_are_taken(tmp_path, model, weights):
    content = {"meta": {"CLASSES": ("car", "bus", "truck")}, "state_dict": weights}
    with pytest.raises(CheckpointError, match="classes car, bus, truck, the config has car, truck, bus"):
        load_detector(model, saved(tmp_path, content))
    assert load_detector(model, saved(tmp_path, {"meta": {"CLASSES": tuple(CLASSES)}, "state_dict": weights})) == []


def test_nothing_in_a_checkpoint_is_executed(tmp_path, model):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    with pytest.raises(CheckpointError, match=r"mkdir.*refused"):
        load_detector(model, saved(tmp_path, {"state_dict": {}, "meta": Evil()}))
    assert not (tmp_path / "executed").exists()


def test_missing_cut_and_foreign_files_are_named(tmp_path, model, weights):
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*none\.pth"):
        load_detector(model, tmp_path / "none.pth")
    path = saved(tmp_path, {"state_dict": weights})
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(CheckpointError, match=r"some\.pth is damaged"):
        load_detector(model, path)
    with pytest.raises(CheckpointError, match="no state dict"):
        load_detector(model, saved(tmp_path, {"state_dict": {"0.weight": 1.5}}))
