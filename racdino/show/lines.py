"""Anti-aliased lines and labels with a fraction of a pixel."""

from __future__ import annotations

import cv2
import numpy as np

_BITS = 4  # of a pixel's fraction
_FONT = cv2.FONT_HERSHEY_SIMPLEX
Colour = tuple[int, int, int]


def line(canvas: np.ndarray, ends: np.ndarray, colour: Colour, thickness: int = 1, dashed: bool = False) -> None:
    """From ``ends[0]`` to ``ends[1]``, (2, 2) pixels, which lie in or near the canvas."""
    pieces = _dashes(ends) if dashed else ends[None]
    for begin, end in np.rint(pieces * 2**_BITS).astype(int):
        cv2.line(canvas, tuple(begin.tolist()), tuple(end.tolist()), colour, thickness, cv2.LINE_AA, _BITS)


def dot(canvas: np.ndarray, at: np.ndarray, radius: float, colour: Colour) -> None:
    """A filled disc around ``at`` (2,)."""
    x, y = np.rint(at * 2**_BITS).astype(int).tolist()
    cv2.circle(canvas, (x, y), round(radius * 2**_BITS), colour, -1, cv2.LINE_AA, _BITS)


def text(canvas: np.ndarray, words: str, at: tuple[float, float], colour: Colour, scale: float = 0.4) -> None:
    """``words`` on a dark strip whose lower left corner is ``at``, moved into the canvas where it would leave it."""
    (width, height), below = cv2.getTextSize(words, _FONT, scale, 1)
    x = int(min(max(at[0], 0), canvas.shape[1] - width - 4))
    y = int(min(max(at[1], height + below + 2), canvas.shape[0]))
    strip = canvas[max(y - height - below - 2, 0) : y, max(x, 0) : x + width + 4]
    strip[:] = strip // 3
    cv2.putText(canvas, words, (x + 2, y - below), _FONT, scale, colour, 1, cv2.LINE_AA)


def _dashes(ends: np.ndarray, on: float = 5, off: float = 4) -> np.ndarray:
    """(n, 2, 2): ``ends`` cut into pieces of ``on`` pixels with gaps of ``off``."""
    step = ends[1] - ends[0]
    length = float(np.linalg.norm(step))
    begins = np.arange(0, max(length, 1e-9), on + off)
    fractions = np.stack([begins, np.minimum(begins + on, length)], 1) / max(length, 1e-9)
    return ends[0] + fractions[..., None] * step
