"""Scores and box codes to detections."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from racdino.detector.batch import Detections
from racdino.detector.decoder.coordinates import boxes_from_code
from racdino.detector.registry import register

DIVERGED = "are not finite; look for the step of the training at which a loss became NaN or infinite."


@register("NMSFreeCoder")
class NMSFreeCoder:
    """The best pairs of query and class become boxes; the set prediction needs no suppression of duplicates.

    Args:
        post_center_range: x, y, z low, then high, in metres, of the centres that are kept.
        max_num: pairs that are looked at.
        score_threshold: scores must be above it; None keeps all.
        num_classes: the width of the logits.
        pc_range, voxel_size: accepted and unused; box codes are in metres already.

    Source: DETR3D, Wang et al. 2021, arXiv:2110.06922.
    """

    def __init__(
        self,
        post_center_range: Sequence[float],
        max_num: int = 300,
        score_threshold: float | None = None,
        num_classes: int = 10,
        pc_range: Sequence[float] | None = None,
        voxel_size: Sequence[float] | None = None,
    ) -> None:
        self.post_center_range = tuple(post_center_range)
        self.max_num = max_num
        self.score_threshold = score_threshold
        self.num_classes = num_classes

    def decode(self, logits: Tensor, codes: Tensor) -> Detections:
        """(Q, classes) logits and (Q, 10) box codes of one sample, the highest score first.

        Raises:
            FloatingPointError: a logit or a box that would be returned is NaN or infinite.
        """
        if not logits.isfinite().all():
            raise FloatingPointError(f"The detector's scores {DIVERGED}")
        scores, index = logits.sigmoid().flatten().topk(min(self.max_num, logits.numel()))
        if self.score_threshold is not None:
            index, scores = index[scores > self.score_threshold], scores[scores > self.score_threshold]
        labels, codes = index % self.num_classes, codes[torch.div(index, self.num_classes, rounding_mode="floor")]
        boxes = boxes_from_code(codes)
        if not boxes.isfinite().all():
            raise FloatingPointError(f"The detector's boxes {DIVERGED}")
        centre = codes[:, [0, 1, 4]]
        low, high = centre.new_tensor(self.post_center_range).view(2, 3)
        kept = ((centre >= low) & (centre <= high)).all(-1)
        return Detections(boxes[kept], scores[kept], labels[kept])
