"""A location's road: one smooth closed curve on flat ground, and the lines of the things along it."""

from __future__ import annotations

import numpy as np

from racdino.synthetic.seeding import generator

EXTENT = 400.0  # metres; a location's map is a square of this side with its origin at the lower left
LOCATIONS = ("boston-seaport", "singapore-onenorth", "singapore-queenstown", "singapore-hollandvillage")
LANE = 3.5
KERB = 11.4  # metres from the middle of the road, on both sides
PAVEMENT = 16.0  # where the pavement ends
_STEPS = 16384


class Road:
    """r(angle) = R (1 + a cos(k angle + phase)) about the middle of the map, driven counter-clockwise.

    A place is an arc length along the curve (periodic) and an offset to the left of it, in metres.
    """

    def __init__(self, location: str, seed: int) -> None:
        random = generator(seed, "road", location)
        self.radius = random.uniform(104, 116)
        self.waves = int(random.integers(2, 4))
        self.swing = random.uniform(0.04, 0.08)
        self.phase = random.uniform(0, 2 * np.pi)
        self._angle = np.linspace(0, 2 * np.pi, _STEPS + 1)
        points, _ = self._curve(self._angle)
        self._arc = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
        self.length = float(self._arc[-1])

    def _curve(self, angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        turn = self.waves * angle + self.phase
        r = self.radius * (1 + self.swing * np.cos(turn))
        slope = -self.radius * self.swing * self.waves * np.sin(turn)
        out = np.stack([np.cos(angle), np.sin(angle)], -1)
        ahead = np.stack([-np.sin(angle), np.cos(angle)], -1)
        return EXTENT / 2 + r[..., None] * out, slope[..., None] * out + r[..., None] * ahead

    def at(self, arc: np.ndarray, offset: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """(n, 2) global positions and (n,) headings of the driving direction at (n,) arc lengths and offsets."""
        points, tangent = self._curve(np.interp(np.mod(arc, self.length), self._arc, self._angle))
        tangent = tangent / np.linalg.norm(tangent, axis=-1, keepdims=True)
        left = np.stack([-tangent[..., 1], tangent[..., 0]], -1)
        return points + np.asarray(offset)[..., None] * left, np.arctan2(tangent[..., 1], tangent[..., 0])

    def line(self, offset: float, start: float = 0.0, stop: float | None = None, step: float = 1.0) -> np.ndarray:
        """(n, 2): a polyline beside the curve from one arc length to another, the whole round by default."""
        stop = self.length if stop is None else stop
        return self.at(np.linspace(start, stop, max(2, int((stop - start) / step) + 1)), offset)[0]
