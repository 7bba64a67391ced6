"""Dropout in the decoder that depends on the sample, the place and the query alone.

How many queries a batch has depends on its most crowded sample (denoising), so numbers drawn one after the other would
differ between a batch of two and two batches of one. Here each number is a hash of the sample's seed (from
`SampleRandom`), of the place, and of what the number is for: which query, which channel or key. It is computed on the
tensor's device.

Both sides of a mask, rows (sample, place, query) and columns (channel; head and key), are scrambled 32-bit words. A
row's odd word times a column's, modulo 2**32, decides by its high bits: multiplicative hashing, Dietzfelbinger et al.
1997, "A reliable randomized algorithm for the closest-pair problem". So the mask itself, the only large tensor, takes
one product and one comparison.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from racdino.detector.constants import constant
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


def _signed(word: int) -> int:
    """The int32 of the same 32 bits."""
    return (word & _WORD) - ((word & 2**31) << 1)


class KeyedDropout:
    """The dropout of one forward pass.

    Args:
        random: the batch's random numbers; None outside training, then nothing is dropped.
        query_ids: (Q,) int64, a name for each query that does not depend on what else is in the batch.
        layers: how many layers drop at each place. What they draw is computed for all of them at the first.
    """

    def __init__(self, random: SampleRandom | None, query_ids: Tensor, layers: int) -> None:
        self.random = random
        self.query_ids = query_ids
        self.layers = layers
        self._rows: dict[str, Tensor] = {}
        self._columns: dict[tuple[str, int], Tensor] = {}
        self._factors: dict[tuple[str, int, float], Tensor] = {}
        if random is not None:
            self._words = self._words_of_rows(random)

    def _words_of_rows(self, random: SampleRandom) -> Tensor:
        """(B, Q) int32: one scrambled word per sample and query, before a place has a say."""
        seeds = [random.generator(index, "dropout").initial_seed() for index in range(len(random.keys))]
        low, high = (
            torch.tensor([seed >> shift & _WORD for seed in seeds], device=self.query_ids.device)[:, None]
            for shift in (0, 32)
        )
        return _mix(_mix(self.query_ids ^ low) ^ high).to(torch.int32)

    def channels(self, x: Tensor, probability: float, place: str, layer: int) -> Tensor:
        """``x`` (B, Q, C) with values dropped and the rest scaled."""
        if self.random is None or probability == 0:
            return x
        name = place, x.shape[2], probability
        if name not in self._factors:
            self._factors[name] = self._factor(x, self._rows_at(place)[..., None], self._channels(x), probability)
        return x * self._factors[name][layer]

    def attention(self, weights: Tensor, probability: float, place: str, layer: int) -> Tensor:
        """``weights`` (B, heads, Q, Q) with values dropped and the rest scaled."""
        if self.random is None or probability == 0:
            return weights
        rows = self._rows_at(place)[layer][:, None, :, None]
        return weights * self._factor(weights, rows, self._heads_and_keys(weights), probability)

    def _channels(self, x: Tensor) -> Tensor:
        name = "channels", x.shape[2]
        if name not in self._columns:
            self._columns[name] = _mix(torch.arange(x.shape[2], device=x.device)).to(torch.int32)
        return self._columns[name]

    def _heads_and_keys(self, weights: Tensor) -> Tensor:
        name = "heads", weights.shape[1]
        if name not in self._columns:
            heads = torch.arange(weights.shape[1], device=weights.device) << 24  # more queries than anyone has
            self._columns[name] = _mix(heads[:, None, None] + self.query_ids).to(torch.int32)
        return self._columns[name]

    def _rows_at(self, place: str) -> Tensor:
        """(layers, B, Q) int32, odd."""
        if place not in self._rows:
            sites = [f"decoder.{layer}.{place}".encode() for layer in range(self.layers)]
            digests = [int.from_bytes(hashlib.blake2b(site, digest_size=8).digest(), "little") for site in sites]
            low, high = (
                constant(tuple(_signed(digest) for digest in half), torch.int32, self._words.device)[:, None, None]
                for half in (digests, [digest >> 32 | 1 for digest in digests])
            )
            self._rows[place] = (self._words ^ low).mul_(high).bitwise_or_(1)
        return self._rows[place]

    @staticmethod
    def _factor(x: Tensor, rows: Tensor, columns: Tensor, probability: float) -> Tensor:
        """0 where ``x`` is dropped, else what keeps its mean."""
        kept = rows * columns >= round(probability * 2**32) - 2**31
        return kept * constant((1 / (1 - probability),), x.dtype, x.device)
