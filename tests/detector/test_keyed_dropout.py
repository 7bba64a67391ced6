"""The decoder's dropout is a function of sample, place and query."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from racdino.detector.decoder.keyed_dropout import KeyedDropout, _mix
from racdino.detector.randomness import SampleRandom


def mix_in_numpy(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.uint32)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x31848BAB)):
        x ^= x >> np.uint32(shift)
        x *= np.uint32(factor)
    return x ^ (x >> np.uint32(16))


def test_the_hash_is_what_unsigned_arithmetic_gives():
    x = np.random.default_rng(0).integers(0, 2**32, 1000)
    assert _mix(torch.from_numpy(x.copy())).tolist() == mix_in_numpy(x).tolist()


def test_it_drops_the_share_asked_for_evenly_over_rows_columns_and_heads():
    ids = torch.arange(300)
    kept = KeyedDropout(SampleRandom([3, 4]), ids, 2).attention(torch.ones(2, 8, 300, 300), 0.1, "here", 0)
    assert kept.unique().tolist() == pytest.approx([0, 1 / 0.9])
    dropped = (kept == 0).double()
    assert float(dropped.mean()) == pytest.approx(0.1, abs=1e-3)
    for axes in ((0, 1, 2), (0, 1, 3)):  # 4800 draws each, standard deviation 0.0043
        assert float((dropped.mean(axes) - 0.1).abs().max()) < 5 * 0.0044
    flat = dropped.flatten(2).flatten(0, 1)  # 16 masks of 90,000
    correlation = torch.corrcoef(flat) - torch.eye(16)
    assert float(correlation.abs().max()) < 5 / 300
    shifted = torch.corrcoef(torch.stack([dropped[..., :-1].flatten(), dropped[..., 1:].flatten()]))[0, 1]
    assert abs(float(shifted)) < 5 / 1200


def test_a_sample_sees_the_same_numbers_in_any_batch():
    ids = torch.arange(5)
    x, weights = torch.rand(2, 5, 7), torch.rand(2, 3, 5, 5)
    both = KeyedDropout(SampleRandom([3, 4]), ids, 2)
    alone = KeyedDropout(SampleRandom([4]), ids, 2)
    assert torch.equal(both.channels(x, 0.5, "a", 0)[1:], alone.channels(x[1:], 0.5, "a", 0))
    assert torch.equal(both.attention(weights, 0.5, "a", 0)[1:], alone.attention(weights[1:], 0.5, "a", 0))


def test_a_query_sees_the_same_numbers_beside_any_others():
    few, many = torch.tensor([9, 0, 1, 2]), torch.tensor([9, 14, 0, 1, 2])
    at = torch.tensor([0, 2, 3, 4])
    x, weights = torch.rand(1, 5, 7), torch.rand(1, 3, 5, 5)
    random = SampleRandom([3])
    assert torch.equal(
        KeyedDropout(random, many, 2).channels(x, 0.5, "a", 0)[:, at],
        KeyedDropout(random, few, 2).channels(x[:, at], 0.5, "a", 0),
    )
    inner = weights[:, :, at][..., at]
    assert torch.equal(
        KeyedDropout(random, many, 2).attention(weights, 0.5, "a", 0)[:, :, at][..., at],
        KeyedDropout(random, few, 2).attention(inner, 0.5, "a", 0),
    )


def test_another_place_and_another_sample_see_other_numbers():
    x = torch.ones(1, 20, 30)
    masks = [
        KeyedDropout(SampleRandom([key]), torch.arange(20), 2).channels(x, 0.5, site, 0)
        for key in (1, 2)
        for site in "ab"
    ]
    for first in range(4):
        for second in range(first):
            assert 0.4 < float((masks[first] == masks[second]).double().mean()) < 0.6


def test_nothing_is_dropped_outside_training():
    x = torch.rand(1, 4, 5)
    assert KeyedDropout(None, torch.arange(4), 2).channels(x, 0.5, "a", 0) is x
