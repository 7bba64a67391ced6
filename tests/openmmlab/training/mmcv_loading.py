"""What mmcv's functions and the runner do with checkpoints, a malicious one included; run by test_mmcv_loading.py."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import stand_ins
import torch
from mmcv.runner import EpochBasedRunner, load_checkpoint

from racdino.openmmlab.training import main, options
from racdino.openmmlab.training.runner import TrainingRunner
from racdino.training.stop_request import StopRequest
from racdino.weights.checkpoint import CheckpointError


class Malicious:
    def __reduce__(self):
        return os.system, ("touch executed",)


def refused(action) -> bool:
    try:
        action()
    except CheckpointError as error:
        return "refused, nothing was executed" in str(error)
    return False


main.main(["config.py", "--work-dir", "run", "--cfg-options", "total_epochs=1"])
with zipfile.ZipFile("bad.pth", "w") as archive:
    archive.writestr("archive/data.pkl", pickle.dumps({"state_dict": Malicious()}, protocol=2))

model = stand_ins.StandInDetector()
load_checkpoint(model, "run/epoch_1.pth", map_location="cpu", strict=True)
saved = torch.load("run/epoch_1.pth")["state_dict"]
assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())
assert refused(lambda: load_checkpoint(model, "bad.pth"))

given = options.parser().parse_args(["config.py", "--work-dir", "other"])
runner = main.prepare(given, StopRequest())
assert isinstance(runner, TrainingRunner)
assert isinstance(runner, EpochBasedRunner)
assert refused(lambda: runner.load_checkpoint("bad.pth"))
assert refused(lambda: runner.resume("bad.pth"))
runner.load_checkpoint("run/epoch_1.pth")
assert torch.equal(runner.model.head.weight, saved["head.weight"])
runner.resume("run/epoch_1.pth")
assert (runner.epoch, runner.iter) == (1, 6)
assert not Path("executed").exists()
