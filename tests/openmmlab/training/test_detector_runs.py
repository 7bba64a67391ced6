"""The demo's detector on rendered scenes: stopped inside an epoch and resumed, and in two processes."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkpoint_differences import differences

DEMO = Path(__file__).resolve().parents[3] / "configs" / "racformer_dinov2_demo.py"
pytestmark = pytest.mark.slow
# Colour and flip augmentation, denoising and dropout are drawn; two iterations an epoch.
OPTIONS = ("total_epochs=2", "eval_config=None", "log_config.hooks.0.interval=1", "checkpoint_config.iter_interval=1")
OPTIONS += ("model.data_aug.img_color_aug=True", "data.train.pipeline.5.ida_aug_conf.rand_flip=True")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    from racdino.data.prepare import prepare
    from racdino.synthetic.dataset import synthesize
    from racdino.synthetic.parameters import Parameters

    folder = tmp_path_factory.mktemp("rendered")
    synthesize(folder, Parameters(scenes=2, samples_per_scene=4, image_size=(800, 450)), 1)
    prepare(folder, "v1.0-mini", 1, skip=False)
    return folder


@pytest.fixture
def options(trainer, rendered):
    trainer.config.write_text(f"_base_ = ['{DEMO}']\n")
    infos = f"data.train.ann_file={rendered}/nuscenes_infos_train_mini_sweep.pkl"
    return ("--cfg-options", infos, f"data.train.data_root={rendered}/", *OPTIONS)


def test_a_run_resumed_inside_an_epoch_ends_bit_for_bit_as_the_uninterrupted_one(trainer, options):
    options = (*options, "batch_size=2", "ema_config.decay=0.9")
    trainer.run("--work-dir", "whole", *options, "data.workers_per_gpu=0")
    trainer.run("--work-dir", "rest", "--resume", "whole/epoch_0_iter_1.pth", *options, "data.workers_per_gpu=2")
    whole, rest = (trainer.final(work_dir, "epoch_2.pth") for work_dir in ("whole", "rest"))
    del whole["meta"]["config"], rest["meta"]["config"]  # the number of workers
    assert differences(rest, whole) == []


def test_two_processes_have_every_loss_of_one_with_the_same_global_batch(trainer, options):
    """Weights stay as they are here, since Adam makes steps of full size out of gradients that are rounding errors."""
    options = (*options, "optimizer.lr=0.0", "data.workers_per_gpu=0")
    trainer.run("--work-dir", "one", *options, "batch_size=2")
    trainer.run_processes(2, "--work-dir", "two", *options, "batch_size=1")
    one, two = trainer.records("one"), trainer.records("two")
    assert [record["step"] for record in one] == [1, 2, 3, 4]
    assert len({record["loss"] for record in one}) == 4
    for alone, together in zip(one, two, strict=True):
        losses = {name: value for name, value in alone.items() if "loss" in name}
        assert len(losses) > 8
        assert {name: together[name] for name in losses} == pytest.approx(losses, rel=1e-5, abs=1e-5)
        assert together["grad_norm"] == pytest.approx(alone["grad_norm"], rel=1e-4)
    ends = [trainer.final(work_dir, "epoch_2.pth")["state_dict"] for work_dir in ("one", "two")]
    for name, value in ends[0].items():  # running statistics of batch norm
        assert value.numpy() == pytest.approx(ends[1][name].numpy(), rel=1e-4, abs=1e-5), name
