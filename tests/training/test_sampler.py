"""Every process takes its part of one order, which depends on seed and epoch alone."""

from __future__ import annotations

from collections import Counter

import pytest

from racdino.training.sampler import GlobalBatchSampler


def batches(sampler, epoch=0, first=0):
    sampler.start_at(epoch, first)
    return list(sampler)


@pytest.mark.parametrize("samples", [1, 7, 16, 23])
def test_processes_together_take_the_samples_that_one_process_takes(samples):
    alone = batches(GlobalBatchSampler(samples, 4, seed=5))
    parts = [batches(GlobalBatchSampler(samples, 2, 5, process=r, processes=2)) for r in (0, 1)]
    assert alone == [first + second for first, second in zip(*parts, strict=True)]


def test_an_epoch_holds_every_sample_once_and_fills_up_the_last_batch():
    drawn = Counter(index for batch in batches(GlobalBatchSampler(23, 4, seed=0)) for _, index in batch)
    assert set(drawn) == set(range(23))
    assert sum(drawn.values()) == 24


def test_starting_inside_an_epoch_goes_on_as_if_it_had_begun_there():
    sampler = GlobalBatchSampler(30, 4, seed=1)
    whole = batches(sampler, epoch=3)
    assert batches(sampler, epoch=3, first=5) == whole[5:]
    assert len(sampler) == len(whole)


def test_epochs_and_seeds_have_orders_of_their_own():
    def orders(seed, epoch):
        return tuple(index for batch in batches(GlobalBatchSampler(50, 5, seed), epoch) for _, index in batch)

    assert len({orders(seed, epoch) for seed in (0, 1) for epoch in (0, 1, 2)}) == 6
    assert orders(0, 1) == orders(0, 1)


def test_an_empty_data_set_is_refused():
    with pytest.raises(ValueError, match="no samples"):
        GlobalBatchSampler(0, 4, seed=0)
