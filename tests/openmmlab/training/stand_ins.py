"""A detector and a data set that are trained in milliseconds: linear, batch norm, dropout keyed by sample."""

from __future__ import annotations

import time

import numpy as np
import torch
from mmcv.parallel import DataContainer
from mmdet.models.builder import DETECTORS
from mmdet3d.datasets.builder import DATASETS
from torch import nn

from racdino.detector.randomness import SampleRandom
from racdino.training import processes


@DATASETS.register_module()
class StandInDataset:
    """Numbers with a known linear relation, noise drawn from numpy's global generator, as careless steps do."""

    CLASSES = ("car",)

    def __init__(self, samples: int = 24, noise: float = 0.1) -> None:
        self.x = np.random.default_rng(0).standard_normal((samples, 6)).astype(np.float32)
        self.noise = noise
        self.seed = 0

    def set_epoch(self, epoch: int) -> None:
        raise AssertionError("the epoch comes with the index")

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, pair: tuple[int, int]) -> dict:
        epoch, index = pair
        x = self.x[index] + self.noise * np.random.standard_normal(6).astype(np.float32)
        return {
            "x": DataContainer(torch.from_numpy(x).float(), stack=True, pad_dims=None),
            "y": DataContainer(torch.tensor([float(self.x[index].sum())]), stack=True, pad_dims=None),
            "img_metas": DataContainer({"sample_key": hash((self.seed, epoch, index))}, cpu_only=True),
        }


@DETECTORS.register_module()
class StandInDetector(nn.Module):
    """Two layers with batch norm, dropout by sample key, and a draw from torch's global generator in every step."""

    def __init__(
        self, seconds=0.0, dropout=0.2, noise=0.01, fail_at=-1, norm=True, train_cfg=None, test_cfg=None
    ) -> None:
        super().__init__()
        self.img_backbone = nn.Sequential(nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8) if norm else nn.Identity())
        self.sampling_offsets = nn.Linear(8, 8)
        self.head = nn.Linear(8, 1)
        self.loss_depth_weight = 2.0
        self.seconds, self.dropout, self.noise, self.fail_at, self.steps = seconds, dropout, noise, fail_at, 0

    def init_weights(self) -> None:
        """Drawn from the global generator already."""

    def train_step(self, data: dict, optimizer: torch.optim.Optimizer) -> dict:
        time.sleep(self.seconds)
        x = self.img_backbone(data["x"]).relu()
        random = SampleRandom([meta["sample_key"] for meta in data["img_metas"]])
        x = random.dropout(self.sampling_offsets(x), self.dropout, "stand-in")
        out = self.head(x) + (self.noise * torch.randn(1) if self.noise else 0)
        if self.steps >= self.fail_at >= 0:
            out = out * float("nan")
        self.steps += 1
        loss = self.loss_depth_weight * (out - data["y"]).square().mean()
        value = sum(float(part) for part in processes.of_all(float(loss.detach()))) / processes.count()
        return {"loss": loss, "log_vars": {"loss_reg": value, "loss": value}, "num_samples": len(out)}
