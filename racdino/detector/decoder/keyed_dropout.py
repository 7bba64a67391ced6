"""Dropout in the decoder that depends on the sample, the place and the query alone.

How many queries a batch has depends on its most crowded sample (denoising), so numbers drawn one after the other would
differ between a batch of two and two batches of one. Here each number is a hash of the sample's seed at a place (from
`SampleRandom`) and of what the number is for: which query, which channel or key. It is computed on the tensor's device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from racdino.detector.randomness import SampleRandom

_WORD = 0xFFFFFFFF


def _mix(x: Tensor) -> Tensor:
    """Scramble 32 bits held in int64, in place: a bijection whose every output bit depends on every input bit.

    Xor-shift and multiply rounds; the factors stay below 2**31, so that no product leaves int64.
    """
    x ^= x >> 16
    x.mul_(0x7FEB352D).bitwise_and_(_WORD)
    x ^= x >> 15
    x.mul_(0x31848BAB).bitwise_and_(_WORD)
    x ^= x >> 16
    return x


class KeyedDropout:
    """The dropout of one forward pass.

    Args:
        random: the batch's random numbers; None outside training, then nothing is dropped.
        query_ids: (Q,) int64, a name for each query that does not depend on what else is in the batch.
    """

    def __init__(self, random: SampleRandom | None, query_ids: Tensor) -> None:
        self.random = random
        self.query_ids = query_ids

    def channels(self, x: Tensor, probability: float, site: str) -> Tensor:
        """``x`` (B, Q, C) with values dropped and the rest scaled."""
        if self.random is None or probability == 0:
            return x
        channels = torch.arange(x.shape[2], device=x.device)
        return self._drop(x, self._rows(site)[:, :, None], channels, probability)

    def attention(self, weights: Tensor, probability: float, site: str) -> Tensor:
        """``weights`` (B, heads, Q, Q) with values dropped and the rest scaled."""
        if self.random is None or probability == 0:
            return weights
        heads = torch.arange(weights.shape[1], device=weights.device) << 24  # more queries than anyone has
        rows = self._rows(site)[:, None, :, None]
        return self._drop(weights, rows, heads[:, None, None] + self.query_ids, probability)

    def _rows(self, site: str) -> Tensor:
        """(B, Q) one scrambled 32-bit number per sample and query."""
        assert self.random is not None
        seeds = [self.random.generator(index, site).initial_seed() for index in range(len(self.random.keys))]
        low, high = (
            torch.tensor([seed >> shift & _WORD for seed in seeds], device=self.query_ids.device)[:, None]
            for shift in (0, 32)
        )
        return _mix(_mix(self.query_ids ^ low) ^ high)

    @staticmethod
    def _drop(x: Tensor, rows: Tensor, columns: Tensor, probability: float) -> Tensor:
        kept = _mix(rows ^ _mix(columns.clone())) >= round(probability * 2**32)
        return x * kept * (1 / (1 - probability))
