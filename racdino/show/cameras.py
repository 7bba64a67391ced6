"""Boxes over a camera image."""

from __future__ import annotations

import numpy as np

from racdino.show import lines
from racdino.show.palette import INK
from racdino.show.sample import Layer, Sample
from racdino.show.wireframe import EDGES, FRONT, clip, corners, project


def draw_camera(sample: Sample, index: int) -> np.ndarray:
    """A copy of image ``index`` with wireframes: truth dashed, detections solid with their scores; uint8 RGB."""
    canvas = np.ascontiguousarray(sample.images[index]).copy()
    for layer in sample.layers():
        _draw_layer(canvas, sample.lidar2img[index], layer)
    lines.text(canvas, sample.cameras[index], (4, canvas.shape[0] - 4), INK)
    return canvas


def _draw_layer(canvas: np.ndarray, lidar2img: np.ndarray, layer: Layer) -> None:
    height, width = canvas.shape[:2]
    boxes = layer.found.boxes
    points = project(corners(boxes), lidar2img)
    colours = layer.colours()
    for i in np.argsort(-np.linalg.norm(boxes[:, :2], axis=1)):  # far ones first, so that near ones cover them
        edges = np.concatenate([EDGES, FRONT])
        segments, kept = clip(points[i][edges], width, height)
        for ends, edge in zip(segments, kept, strict=True):
            thickness = 1 if layer.dashed or edge >= len(EDGES) else 2
            lines.line(canvas, ends, colours[i], thickness, dashed=layer.dashed)
        if layer.label(i) and len(segments):
            x, y = segments.reshape(-1, 2).min(0)
            lines.text(canvas, layer.label(i), (x, y), colours[i], 0.35)
