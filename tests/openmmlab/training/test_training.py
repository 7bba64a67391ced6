"""Training does what mmcv's runner and hooks do, and what the config asks for beyond them."""

from __future__ import annotations

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

QUIET = 'model["noise"] = 0'  # the reference does not restore torch's generator around loading


def append(trainer, *lines):
    with trainer.config.open("a") as config:
        config.write("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    "lines",
    [
        (),
        ('lr_config["by_epoch"] = False',),
        ('optimizer_config.update(type="GradientCumulativeOptimizerHook", cumulative_iters=3)',),
        ('lr_config = dict(policy="step", step=[1, 2])', 'optimizer["paramwise_cfg"] = dict(bias_lr_mult=2.0)'),
    ],
    ids=["the baseline's keys", "cosine by iteration", "accumulation", "steps and another rule for groups"],
)
def test_weights_and_learning_rates_are_those_of_mmcvs_own_runner(trainer, lines):
    append(trainer, QUIET, *lines)
    trainer.run("--work-dir", "run")
    trainer.run_script("mmcv_reference.py")
    reference = trainer.final(".", "reference.pth")
    ours = trainer.final("run")
    for name, value in reference["state_dict"].items():
        torch.testing.assert_close(ours["state_dict"][name], value, rtol=1e-6, atol=1e-7, msg=name)
    rates = [group["lr"] for group in ours["optimizer"]["param_groups"]]
    assert sorted(set(rates)) == pytest.approx(reference["rates"][-1])
    logged = [record["lr"] for record in trainer.records("run")]
    assert all(
        any(lr == pytest.approx(rate) for rate in rates) for lr, rates in zip(logged, reference["rates"], strict=True)
    )


def test_names_with_img_backbone_or_sampling_offset_anywhere_in_them_learn_at_a_tenth(trainer):
    trainer.run("--work-dir", "run", "--cfg-options", "total_epochs=1", "lr_config=None")
    groups = trainer.final("run", "epoch_1.pth")["optimizer"]["param_groups"]
    assert {round(group["lr"], 6): len(group["params"]) for group in groups} == {
        1e-3: 3 + 2,  # img_backbone's weight, norm weight and bias; sampling_offsets' weight and bias
        1e-2: 2,  # head
    }


def test_accumulating_two_batches_is_a_batch_of_twice_the_size_without_batch_norm(trainer):
    append(trainer, "model.update(noise=0, norm=False)", "lr_config = None", 'optimizer_config["grad_clip"] = None')
    trainer.run("--work-dir", "large", "--cfg-options", "batch_size=8")
    trainer.run("--work-dir", "small", "--cfg-options", "batch_size=4", "optimizer_config.cumulative_iters=2")
    large, small = (trainer.final(work_dir)["state_dict"] for work_dir in ("large", "small"))
    for name, value in large.items():
        torch.testing.assert_close(small[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_the_depth_loss_weighs_less_from_the_epoch_of_the_control_hook(trainer):
    append(trainer, 'custom_hooks = [dict(type="SequentialControlHook", start_epoch=1)]', "lr_config = None")
    append(trainer, "model.update(noise=0, dropout=0)", 'optimizer["lr"] = 0.0', 'data["train"]["noise"] = 0')
    trainer.run("--work-dir", "run", "--cfg-options", "batch_size=24", "checkpoint_config.iter_interval=1")
    losses = [record["loss"] for record in trainer.records("run")]
    assert losses[0] == pytest.approx(2 * losses[1], rel=1e-3)
    assert losses[1] == pytest.approx(losses[2], rel=1e-3)
    trainer.run("--work-dir", "rest", "--resume", "run/epoch_2.pth", "--cfg-options", "batch_size=24")
    assert trainer.records("rest")[0]["loss"] == losses[2]  # also after a resumption beyond that epoch


def test_half_precision_of_the_config_is_float32_on_the_cpu_and_said_so(trainer):
    trainer.run("--work-dir", "full")
    append(trainer, 'optimizer_config["type"] = "Fp16OptimizerHook"', 'optimizer_config["loss_scale"] = 512.0')
    said = trainer.run("--work-dir", "half")
    assert said.count("There is no GPU, so the half precision (fp16) of the config or of --amp becomes float32") == 1
    full, half = (trainer.final(work_dir) for work_dir in ("full", "half"))
    assert half["loss_scaler"] == {"scale": 512.0, "good_steps": 18, "skipped_in_a_row": 0}
    for name, value in full["state_dict"].items():
        torch.testing.assert_close(half["state_dict"][name], value, rtol=1e-5, atol=1e-6, msg=name)


def test_bfloat16_is_bfloat16(trainer):
    trainer.run("--work-dir", "full")
    trainer.run("--work-dir", "bf16", "--amp", "bf16")
    losses = [[record["loss"] for record in trainer.records(work_dir)] for work_dir in ("full", "bf16")]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.2)


def test_the_averaged_weights_are_those_to_use_and_training_keeps_its_own(trainer):
    trainer.run("--work-dir", "plain")
    trainer.run("--work-dir", "run", "--cfg-options", "ema_config.decay=0.9", "ema_config.ramp=1")
    plain, averaged = trainer.final("plain"), trainer.final("run")
    own = averaged["training_state_dict"]
    assert all(torch.equal(value, own[name]) for name, value in plain["state_dict"].items())
    assert not torch.equal(averaged["state_dict"]["head.weight"], own["head.weight"])
    assert averaged["average"] == {"updates": 18}


@pytest.mark.parametrize("hook", ['dict(type="EMAHook", momentum=0.1)', 'dict(type="MEGVIIEMAHook", decay=0.9)'])
def test_the_average_hooks_of_mmcv_and_bevdet_mean_ours(trainer, hook):
    append(trainer, f"custom_hooks = [{hook}]")
    trainer.run("--work-dir", "run")
    trainer.run("--work-dir", "ours", "--cfg-options", "custom_hooks=None", "ema_config.decay=0.9")
    ours, theirs = trainer.final("ours")["state_dict"], trainer.final("run")["state_dict"]
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_the_run_leaves_its_log_config_and_environment(trainer):
    append(trainer, 'log_config["hooks"].append(dict(type="MyTensorboardLoggerHook", interval=2, reset_flag=True))')
    trainer.run("--work-dir", "run", "--cfg-options", "total_epochs=2")
    trainer.run("--work-dir", "run", "--resume")
    folder = trainer.folder / "run"
    assert {"config.py", "environment.json", "train.log", "train.log.json", "tf_logs"} <= {
        p.name for p in folder.iterdir()
    }
    records = trainer.records("run")
    assert [(r["epoch"], r["iter"], r["step"]) for r in records] == [
        (epoch, iteration, 6 * (epoch - 1) + iteration) for epoch in (1, 2, 3) for iteration in range(1, 7)
    ]
    needed = {"lr", "time", "data_time", "images_per_s", "memory", "eta", "loss", "loss_reg", "grad_norm"}
    assert all(needed <= record.keys() for record in records)
    events = EventAccumulator(str(folder / "tf_logs")).Reload()
    losses = {event.step: event.value for event in events.Scalars("train/loss")}
    assert sorted(losses) == [2, 4, 6, 8, 10, 12, 14, 16, 18]
    assert losses[2] == pytest.approx((records[0]["loss"] + records[1]["loss"]) / 2)


def test_curves_can_be_drawn_from_the_log(trainer):
    pytest.importorskip("matplotlib")
    from racdino.show.curves import draw_curves

    trainer.run("--work-dir", "run", "--cfg-options", "total_epochs=1")
    draw_curves(trainer.folder / "run" / "train.log.json", trainer.folder / "curves.png")
    assert (trainer.folder / "curves.png").read_bytes().startswith(b"\x89PNG")
