"""Query denoising: objects with noise as extra queries in training, which must find back to the truth.

Source: DN-DETR, Li et al. 2022, arXiv:2203.01305.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from racdino.detector.decoder.coordinates import Coordinates, code_from_boxes
from racdino.detector.randomness import SampleRandom

BOX_NOISE = 0.5
LABEL_NOISE = 0.5


@dataclass
class DenoisingQueries:
    """S = groups * slots extra queries per sample; slot i of group g stands at g * slots + i. Samples with fewer
    objects than slots leave the last slots of each group empty.

    boxes: (B, S, 10) query boxes with noise. labels: (B, S) int64 with noise. filled: (B, S) bool. targets: (B, S, 10)
    box codes and target_labels (B, S), without noise; both are of no meaning in empty slots.
    """

    boxes: Tensor
    labels: Tensor
    filled: Tensor
    targets: Tensor
    target_labels: Tensor
    groups: int

    @property
    def size(self) -> int:
        return self.boxes.shape[1]

    def hidden(self, num_queries: int) -> Tensor:
        """(B, S + Q, S + Q) bool, True where the row's query must not see the column's.

        Groups do not see each other, nobody sees empty slots, and the Q ordinary queries see none of the S.
        """
        B, S = self.filled.shape
        group = torch.arange(S, device=self.filled.device) // max(S // self.groups, 1)
        hidden = self.filled.new_zeros(B, S + num_queries, S + num_queries)
        hidden[:, :S, :S] = (group[:, None] != group) | ~self.filled[:, None]
        hidden[:, S:, :S] = True
        return hidden

    def query_ids(self, num_queries: int) -> Tensor:
        """(S + Q,) names for `KeyedDropout`, the same whatever the number of slots; ordinary queries are 0 to Q - 1."""
        numbered = torch.arange(num_queries + self.size, device=self.boxes.device)
        extra = numbered[num_queries:].view(-1, self.groups).t().flatten()  # slot i of group g: i * groups + g
        return torch.cat([extra, numbered[:num_queries]])


def make_denoising_queries(
    gt_boxes: Sequence[Tensor],
    gt_labels: Sequence[Tensor],
    groups: int,
    num_classes: int,
    coordinates: Coordinates,
    random: SampleRandom,
) -> DenoisingQueries:
    """Noisy copies of each sample's objects, ``groups`` of each.

    Args:
        gt_boxes: per sample (n, 9) box rows; unknown velocities (NaN) start as 0. gt_labels: per sample (n,) int64.
    """
    slots = max(len(labels) for labels in gt_labels)
    made = [
        _of_sample(boxes, labels, slots, groups, num_classes, coordinates, random.generator(index, "denoising"))
        for index, (boxes, labels) in enumerate(zip(gt_boxes, gt_labels, strict=True))
    ]
    boxes, labels, filled, targets, target_labels = (torch.stack(parts) for parts in zip(*made, strict=True))
    return DenoisingQueries(boxes, labels, filled, targets, target_labels, groups)


def _of_sample(
    gt_boxes: Tensor,
    gt_labels: Tensor,
    slots: int,
    groups: int,
    num_classes: int,
    coordinates: Coordinates,
    generator: torch.Generator,
) -> tuple[Tensor, ...]:
    """(S, 10), (S,), (S,), (S, 10), (S,): the fields of `DenoisingQueries` for one sample of n objects."""
    n = len(gt_labels)
    # Drawn per object and group, so that other samples of the batch have no say in it.
    drawn = torch.rand(5, groups, n, generator=generator).to(gt_boxes)
    targets = code_from_boxes(gt_boxes)
    noisy = coordinates.query_from_code(targets)
    noisy = torch.cat([noisy[:, :8], noisy[:, 8:].nan_to_num()], dim=-1).repeat(groups, 1, 1)
    noisy[..., :3] += _shift(gt_boxes, drawn[:3] * 2 - 1, coordinates)
    noisy[..., 0] = torch.remainder(noisy[..., 0], 1.0)
    noisy[..., :3] = noisy[..., :3].clamp(0, 1)
    other = (drawn[3] * num_classes).long().clamp(max=num_classes - 1)
    labels = torch.where(drawn[4] < LABEL_NOISE, other, gt_labels)

    def in_slots(x: Tensor) -> Tensor:
        """(groups, n, ...) to (S, ...), padded with zeros."""
        padded = x.new_zeros(groups, slots, *x.shape[2:])
        padded[:, :n] = x
        return padded.flatten(0, 1)

    filled = torch.ones_like(labels, dtype=torch.bool)
    copies = (targets.expand(groups, n, -1), gt_labels.expand(groups, n))
    return tuple(in_slots(x) for x in (noisy, labels, filled, *copies))


def _shift(boxes: Tensor, u: Tensor, coordinates: Coordinates) -> Tensor:
    """(groups, n, 3) changes of theta, d, z out of (3, groups, n) numbers in [-1, 1).

    A quarter of the footprint's diagonal along the ray and a quarter of the height at most. The angle is that under
    which upstream sees a quarter of the diagonal from the distance d = 1, wherever the box is.
    """
    diagonal = boxes[:, 3:5].square().sum(-1).sqrt() / coordinates.radius / 2
    angle = diagonal / (2 * math.pi)
    height = boxes[:, 5] / coordinates.height / 2
    return torch.stack([u[0] * angle, u[1] * diagonal, u[2] * height], dim=-1) * BOX_NOISE
