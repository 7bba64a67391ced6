"""The run of config.py by mmcv's own runner, hooks and optimiser: final weights and learning rates to reference.pth."""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import stand_ins  # noqa: F401
import torch
from mmcv import Config
from mmcv.parallel import MMDataParallel
from mmcv.runner import EpochBasedRunner, Hook, build_optimizer, epoch_based_runner

from racdino.openmmlab.training import parts
from racdino.training.checkpoints import write_checkpoint
from racdino.training.random_state import seed_all


class Epochs(Hook):
    def __init__(self) -> None:
        self.rates: list[list[float]] = []

    def before_train_epoch(self, runner):
        runner.data_loader.batch_sampler.start_at(runner.epoch, 0)

    def after_train_iter(self, runner):
        self.rates.append(sorted(set(runner.current_lr())))


epoch_based_runner.time.sleep = lambda _: None
config = Config.fromfile("config.py")
seed_all(0)
loader = parts.build_loader(config, 0)
model = parts.build_model(config)
runner = EpochBasedRunner(
    MMDataParallel(model, device_ids=None),
    optimizer=build_optimizer(model, copy.deepcopy(config.optimizer)),
    work_dir=".",
    logger=logging.getLogger("reference"),
    max_epochs=config.total_epochs,
)
epochs = Epochs()
runner.register_training_hooks(copy.deepcopy(config.lr_config), copy.deepcopy(config.optimizer_config))
runner.register_hook(epochs, "LOWEST")
runner.run([loader], [("train", 1)])
write_checkpoint(Path("reference.pth"), {"state_dict": model.state_dict(), "rates": epochs.rates})
assert torch.load("reference.pth")
