"""One sample, with everything that is drawn of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from racdino.evaluation.detections import Found
from racdino.show.palette import colour


@dataclass(frozen=True)
class Sample:
    """A key frame in its LiDAR frame (x right, y forward, metres).

    Attributes:
        token: its name in the data set.
        cameras: channel names, in the order of ``images``.
        images: (H, W, 3) uint8 RGB each.
        lidar2img: (N, 4, 4), to homogeneous pixels of ``images``.
        radar: (n, 7) x, y, z, RCS in dBsm, vx, vy over ground, time lag in seconds.
        truth: None where it is not known.
        found: None without a model; else those to be drawn.
    """

    token: str
    class_names: Sequence[str]
    cameras: Sequence[str]
    images: Sequence[np.ndarray]
    lidar2img: np.ndarray
    radar: np.ndarray
    truth: Found | None
    found: Found | None

    def layers(self) -> Iterator[Layer]:
        """What is drawn, the truth first, below the detections."""
        if self.truth is not None:
            yield Layer(self.truth, self.class_names, is_truth=True, dashed=self.found is not None)
        if self.found is not None:
            yield Layer(self.found, self.class_names, is_truth=False, dashed=False)

    def summary(self) -> str:
        """For captions, e.g. 12 detections, 10 true boxes."""
        parts = [] if self.found is None else [f"{len(self.found.boxes)} detections"]
        parts += [] if self.truth is None else [f"{len(self.truth.boxes)} true boxes"]
        return ", ".join(parts)


@dataclass(frozen=True)
class Layer:
    """Truth, without scores and dashed where there are detections as well, or detections."""

    found: Found
    class_names: Sequence[str]
    is_truth: bool
    dashed: bool

    def colours(self) -> list[tuple[int, int, int]]:
        return [colour(self.class_names[label]) for label in self.found.labels]

    def label(self, i: int) -> str:
        """Text beside box ``i``; empty where there is nothing to say that the colour does not."""
        return "" if self.is_truth else f"{self.found.scores[i]:.2f}"
