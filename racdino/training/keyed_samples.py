"""A data set whose samples depend on (seed, epoch, index) alone, whatever worker loads them and when."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from racdino.training.random_state import seed_all


class KeyedSamples(Dataset):
    """``dataset[(epoch, index)]`` with the global generators seeded by (seed, epoch, index) while it loads.

    A pipeline step that draws from a global generator, ours or the user's, so repeats itself in any worker and after a
    resumption. A data set with ``set_epoch`` is given the pair, any other one the index.
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed
        self._takes_pairs = hasattr(dataset, "set_epoch")
        if hasattr(dataset, "seed"):
            dataset.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, pair: tuple[int, int]) -> Any:
        epoch, index = pair
        # Not `kept_random_state`: with CUDA it would copy the device's generator for every sample.
        before = random.getstate(), np.random.get_state(), torch.get_rng_state()
        seed_all(self.seed, epoch, index)
        try:
            return self.dataset[(epoch, index) if self._takes_pairs else index]
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
            torch.set_rng_state(before[2])
