"""The global generators come back to the very state, through a checkpoint too; samples are drawn by their key."""

from __future__ import annotations

import random

import numpy as np
import torch

from racdino.training.checkpoints import write_checkpoint
from racdino.training.keyed_samples import KeyedSamples
from racdino.training.random_state import kept_random_state, random_state, restore_random_state, seed_all
from racdino.weights.checkpoint import read_checkpoint


def draw():
    return random.random(), random.gauss(0, 1), float(np.random.standard_normal()), float(torch.randn(()))


def test_the_state_survives_a_checkpoint(tmp_path):
    seed_all(3)
    draw()  # leaves half a pair of gaussians behind in Python's and numpy's generators
    write_checkpoint(tmp_path / "c.pth", {"random": random_state()})
    expected = [draw() for _ in range(3)]
    restore_random_state(read_checkpoint(tmp_path / "c.pth")["random"])
    assert [draw() for _ in range(3)] == expected


def test_an_evaluation_draws_without_a_trace():
    seed_all(3)
    expected = draw()
    seed_all(3)
    with kept_random_state():
        draw()
    assert draw() == expected


class Drawing:
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return (index, *draw())


def test_a_sample_depends_on_seed_epoch_and_index_alone():
    samples = KeyedSamples(Drawing(), seed=7)
    expected = samples[1, 2]
    draw()
    assert samples[1, 2] == expected
    others = [samples[1, 1], samples[0, 2], KeyedSamples(Drawing(), seed=8)[1, 2]]
    assert all(other[1:] != expected[1:] for other in others)


def test_loading_a_sample_leaves_the_global_generators_alone():
    seed_all(3)
    expected = draw()
    seed_all(3)
    _ = KeyedSamples(Drawing(), seed=7)[0, 0]
    assert draw() == expected
