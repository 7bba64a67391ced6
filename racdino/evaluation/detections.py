"""What a detector found in one sample, checked; and the ground truth of an info in the same form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from racdino.evaluation.errors import EvaluationError


class DetectionsLike(Protocol):
    """``racdino.detector.Detections`` on the CPU, or `Found`."""

    @property
    def boxes(self) -> Any: ...
    @property
    def scores(self) -> Any: ...
    @property
    def labels(self) -> Any: ...


class Found(NamedTuple):
    """Detections of one sample in the LiDAR frame.

    Attributes:
        boxes: (n, 9) float64: x, y, z of the bottom, size along heading, across, up, yaw, vx, vy; metres, rad, m/s.
        scores: (n,) float64.
        labels: (n,) int64, indices into the class names.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def checked(detections: DetectionsLike, token: str, num_classes: int) -> Found:
    """The detections as numpy arrays.

    Raises:
        EvaluationError: shapes do not fit, a number is not finite, a size is not positive, a label names no class;
            the message names the sample.
    """
    boxes = np.asarray(detections.boxes, np.float64)
    scores = np.asarray(detections.scores, np.float64)
    labels = np.asarray(detections.labels, np.int64)
    if len(boxes) == 0:
        boxes = boxes.reshape(0, 9)
    if boxes.ndim != 2 or boxes.shape[1] != 9 or scores.shape != (len(boxes),) or labels.shape != (len(boxes),):
        raise EvaluationError(
            f"Sample {token}: boxes {boxes.shape}, scores {scores.shape} and labels {labels.shape} are not "
            "n rows of 9, n scores and n labels."
        )
    bad = ~(np.isfinite(boxes).all(1) & np.isfinite(scores))
    if bad.any():
        row = int(bad.argmax())
        raise EvaluationError(
            f"Sample {token}: {bad.sum()} of {len(boxes)} detections hold NaN or infinity, first row {row}: "
            f"{boxes[row].tolist()}, score {scores[row]}; the weights or the inputs of that sample are damaged."
        )
    if (boxes[:, 3:6] <= 0).any():
        row = int((boxes[:, 3:6] <= 0).any(1).argmax())
        raise EvaluationError(f"Sample {token}: detection {row} has a size of {boxes[row, 3:6].tolist()} m.")
    if ((labels < 0) | (labels >= num_classes)).any():
        raise EvaluationError(
            f"Sample {token}: labels from {labels.min()} to {labels.max()} where there are {num_classes} classes."
        )
    return Found(boxes, scores, labels)


def truth(info: Mapping[str, Any], class_names: Sequence[str]) -> Found:
    """The boxes of an info that the official evaluation counts: of a known class and with a LiDAR or radar point.

    Scores are 1; unknown velocities, NaN in the info, are 0.

    Raises:
        EvaluationError: the info has no boxes, as those of the test set.
    """
    if "gt_boxes" not in info:
        raise EvaluationError(f"Sample {info['token']} has no ground truth in its info file, as those of v1.0-test.")
    names = [str(name) for name in info["gt_names"]]
    points = np.asarray(info["num_lidar_pts"]) + np.asarray(info["num_radar_pts"])
    kept = [i for i, name in enumerate(names) if name in class_names and points[i] > 0]
    boxes = np.asarray(info["gt_boxes"], np.float64).reshape(-1, 7)[kept]
    velocity = np.nan_to_num(np.asarray(info["gt_velocity"], np.float64).reshape(-1, 2)[kept])
    boxes[:, 2] -= boxes[:, 5] / 2  # infos give the middle, rows the bottom
    labels = np.array([class_names.index(names[i]) for i in kept], np.int64)
    return Found(np.concatenate([boxes, velocity], 1), np.ones(len(kept)), labels)
