"""Random numbers that depend on the sample and the place of use alone.

Dropout, denoising noise and colour augmentation are drawn per sample from a generator that is seeded by the sample's
key and the name of the place: the same whatever the batch, the process, the device or what was drawn before. So two
processes train like one, a resumed run like an uninterrupted one, and recomputing activations repeats their dropout.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


class SampleRandom:
    """The random numbers of one batch.

    Args:
        keys: one number per sample of the batch; the data set makes it from (seed, epoch, sample).
    """

    def __init__(self, keys: Sequence[int]) -> None:
        self.keys = tuple(int(key) for key in keys)

    @classmethod
    def unkeyed(cls, batch: int) -> SampleRandom:
        """Keys out of torch's global generator, for callers without a data set."""
        return cls(torch.randint(2**62, (batch,)).tolist())

    def generator(self, index: int, site: str) -> torch.Generator:
        """A CPU generator for sample ``index`` of the batch at the place called ``site``."""
        digest = hashlib.blake2b(f"{self.keys[index]}/{site}".encode(), digest_size=8).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)

    def uniform(self, shape: Sequence[int], site: str, like: Tensor) -> Tensor:
        """(B, *shape) in [0, 1), float32 on the device of ``like``."""
        drawn = torch.stack(
            [torch.rand(*shape, generator=self.generator(index, site)) for index in range(len(self.keys))]
        )
        if like.is_cuda:
            drawn = drawn.pin_memory()  # so that the copy is queued and nobody waits for it
        return drawn.to(like.device, non_blocking=True)

    def dropout(self, x: Tensor, probability: float, site: str) -> Tensor:
        """``x`` (B*k, ...), each sample's k rows together, with values dropped and the rest scaled."""
        if probability == 0:
            return x
        rows = x.shape[0] // len(self.keys)
        kept = self.uniform((rows, *x.shape[1:]), site, x).flatten(0, 1) >= probability
        return x * kept.to(x.dtype) / (1 - probability)
