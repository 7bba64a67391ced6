"""The assignment has the smallest total cost of all."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch

from racdino.detector import assigner  # noqa: F401  (registers it)
from racdino.detector.registry import build

CONFIG = {
    "type": "PolarHungarianAssigner3D",
    "cls_cost": {"type": "FocalLossCost", "weight": 2.0},
    "reg_cost": {"type": "BBox3DL1Cost", "weight": 0.25},
    "theta_cost": {"type": "ThetaL1Cost", "weight": 3.0},
    "iou_cost": {"type": "IoUCost", "weight": 0.0},
}
WEIGHTS = torch.tensor([2.0, 2, 1, 1, 1, 1, 1, 1, 1, 1])


def make(queries: int, objects: int, seed: int = 0):
    torch.manual_seed(seed)
    return torch.randn(queries, 10), torch.randn(queries, 4), torch.randn(objects, 10), torch.randint(4, (objects,))


def assign(codes, logits, targets, labels):
    """One layer and one sample: queries and targets."""
    pairs = build(CONFIG).assign(codes[None, None], logits[None, None], [targets], [labels], WEIGHTS)
    return pairs.query, pairs.target


@pytest.mark.parametrize("seed", range(5))
def test_no_permutation_costs_less(seed):
    codes, logits, targets, labels = make(6, 4, seed)
    cost = build(CONFIG).cost(codes, logits, targets, labels, WEIGHTS)
    rows, columns = assign(codes, logits, targets, labels)
    assert sorted(columns.tolist()) == [0, 1, 2, 3]
    best = min(sum(float(cost[q, n]) for n, q in enumerate(choice)) for choice in permutations(range(6), 4))
    assert float(cost[rows, columns].sum()) == pytest.approx(best, rel=1e-5)


def test_the_cost_is_the_weighted_sum_of_class_box_and_angle():
    codes, logits, targets, labels = make(3, 2)
    cost = build(CONFIG).cost(codes, logits, targets, labels, WEIGHTS).numpy()
    score = 1 / (1 + np.exp(-logits.double().numpy()))
    for q in range(3):
        for n in range(2):
            p = score[q, labels[n]]
            focal = -np.log(p) * 0.25 * (1 - p) ** 2 + np.log(1 - p) * 0.75 * p**2
            box = ((codes[q] - targets[n]).abs() * WEIGHTS).sum().item()
            angles = [np.arctan2(float(code[1]), float(code[0])) for code in (codes[q], targets[n])]
            turn = abs(angles[0] - angles[1]) / (2 * np.pi)
            assert cost[q, n] == pytest.approx(2 * focal + 0.25 * box + 3 * min(turn, 1 - turn), rel=1e-4)


def test_a_cost_that_is_no_number_makes_a_bad_match_and_no_crash():
    codes, logits, targets, labels = make(5, 2)
    codes[0], logits[1], targets[1, 8] = float("nan"), float("nan"), float("nan")
    rows, columns = assign(codes, logits, targets, labels)
    chosen = dict(zip(columns.tolist(), rows.tolist(), strict=True))
    assert sorted(chosen) == [0, 1]
    assert chosen[0] not in (0, 1)


def test_a_sample_without_objects_and_one_with_more_objects_than_queries():
    codes, logits, targets, labels = make(5, 0)
    assert [len(part) for part in assign(codes, logits, targets, labels)] == [0, 0]
    assert [len(part) for part in assign(*make(3, 7))] == [3, 3]


def test_layers_and_samples_together_are_each_of_them_alone():
    layers, counts = 3, (2, 0, 7)
    torch.manual_seed(0)
    codes, logits = torch.randn(layers, 3, 5, 10), torch.randn(layers, 3, 5, 4)
    targets = [torch.randn(count, 10) for count in counts]
    labels = [torch.randint(4, (count,)) for count in counts]
    pairs = build(CONFIG).assign(codes, logits, targets, labels, WEIGHTS)
    found = list(zip(*(part.tolist() for part in pairs), strict=True))
    expected = []
    for layer in range(layers):
        for sample in range(3):
            rows, columns = assign(codes[layer, sample], logits[layer, sample], targets[sample], labels[sample])
            first = sum(counts[:sample])
            expected += [(layer, sample, q, first + n) for q, n in zip(rows.tolist(), columns.tolist(), strict=True)]
    assert found == expected
