"""A sample as one picture: six cameras, the view from above, a line of text."""

from __future__ import annotations

import cv2
import numpy as np

from racdino.show import lines
from racdino.show.bev import draw_bev
from racdino.show.cameras import draw_camera
from racdino.show.palette import INK, PAPER, colour
from racdino.show.sample import Sample

# The cameras' places, row by row, as seen from the driver's seat.
PLACES = ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT")
BEV = "BEV"
_LEGEND = 28  # pixels


def views(sample: Sample) -> dict[str, np.ndarray]:
    """Drawn cameras by channel in the order of ``PLACES``, then ``BEV``; uint8 RGB."""
    order = sorted(range(len(sample.cameras)), key=lambda i: _place(sample.cameras[i]))
    pictures = {sample.cameras[i]: draw_camera(sample, i) for i in order}
    return {**pictures, BEV: draw_bev(sample, 2 * len(sample.images[0]))}


def compose(pictures: dict[str, np.ndarray], sample: Sample, title: str) -> np.ndarray:
    """Two rows of cameras beside the view from above, over ``title`` and the colours of the classes."""
    cameras = [picture for name, picture in pictures.items() if name != BEV]
    half = -(-len(cameras) // 2)
    empty = [np.zeros_like(cameras[0])] * (2 * half - len(cameras))
    rows = [np.concatenate(row, 1) for row in (cameras[:half], cameras[half:] + empty)]
    body = np.concatenate([np.concatenate(rows), pictures[BEV]], 1)
    foot = np.empty((_LEGEND, body.shape[1], 3), np.uint8)
    foot[:] = PAPER
    dashed = "   dashed: truth" if any(layer.dashed for layer in sample.layers()) else ""
    lines.text(foot, f"{title}   {sample.summary()}{dashed}", (8, _LEGEND - 4), INK, 0.5)
    x = body.shape[1] - 8.0
    for name in reversed(sample.class_names):
        x -= cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)[0][0] + 14
        lines.text(foot, name, (x, _LEGEND - 4), colour(name), 0.5)
    return np.concatenate([body, foot])


def _place(camera: str) -> int:
    return PLACES.index(camera) if camera in PLACES else len(PLACES)
