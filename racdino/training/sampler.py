"""Which samples an iteration trains on: a function of (seed, epoch, iteration, process), whatever was run before."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from racdino.training.random_state import mixed_seed


class GlobalBatchSampler(Sampler):
    """Batches of (epoch, index) pairs for one process, cut out of the batches of all processes together.

    One order of the whole set per epoch is cut into global batches of ``processes * batch_size``; process r takes the
    r-th part of each. So any number of processes with the same global batch sees the same samples in every iteration.
    An order that does not fill its last global batch is filled up from its beginning.

    Args:
        samples: length of the data set.
        batch_size: samples of one process in one iteration.
        seed: of the orders; each epoch has its own.
    Raises:
        ValueError: the data set is empty.
    """

    def __init__(self, samples: int, batch_size: int, seed: int, process: int = 0, processes: int = 1) -> None:
        if samples < 1:
            raise ValueError("The training set has no samples.")
        self.samples = samples
        self.batch_size = batch_size
        self.seed = seed
        self.process = process
        self.processes = processes
        self.epoch = 0
        self.first = 0

    @property
    def global_batch(self) -> int:
        """Samples of all processes in one iteration."""
        return self.batch_size * self.processes

    def __len__(self) -> int:
        """Iterations of a whole epoch, also where the current one starts in its middle."""
        return -(-self.samples // self.global_batch)

    def start_at(self, epoch: int, iteration: int) -> None:
        """Let the next iteration over this sampler begin with batch ``iteration`` of ``epoch``, both from 0."""
        self.epoch, self.first = epoch, iteration

    def order(self) -> list[int]:
        """The samples of the current epoch in order, all processes together: len(self) whole global batches."""
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, self.epoch))
        order = torch.randperm(self.samples, generator=generator)
        length = len(self) * self.global_batch
        return order.repeat(-(-length // self.samples))[:length].tolist()

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order, epoch = self.order(), self.epoch
        for iteration in range(self.first, len(self)):
            begin = iteration * self.global_batch + self.process * self.batch_size
            yield [(epoch, index) for index in order[begin : begin + self.batch_size]]
