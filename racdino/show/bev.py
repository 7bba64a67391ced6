"""The scene from above, in the LiDAR frame: forward is up."""

from __future__ import annotations

import numpy as np

from racdino.show import lines
from racdino.show.palette import GRID, INK, PAPER, RADAR
from racdino.show.sample import Layer, Sample
from racdino.show.wireframe import corners

REACH = 51.2  # metres to each side
_RINGS = (10, 20, 30, 40, 50)
_SLOWEST = 0.5  # m/s; below, an arrow would be noise
_ARROW_SECONDS = 1.0  # an arrow ends where the object will be then


def draw_bev(sample: Sample, size: int = 720) -> np.ndarray:
    """(size, size, 3) uint8 RGB: rings every 10 m, radar points with their velocity, boxes and velocity arrows."""
    canvas = np.empty((size, size, 3), np.uint8)
    canvas[:] = PAPER
    _draw_ground(canvas)
    _draw_radar(canvas, sample.radar)
    for layer in sample.layers():
        _draw_layer(canvas, layer)
    return canvas


def to_pixels(points: np.ndarray, size: int) -> np.ndarray:
    """(..., 2) pixels of x right, y forward in metres."""
    return (np.asarray(points)[..., :2] * [1, -1] + REACH) * (size / (2 * REACH))


def _draw_ground(canvas: np.ndarray) -> None:
    size = len(canvas)
    turn = np.linspace(0, 2 * np.pi, 181)
    for radius in _RINGS:
        ring = to_pixels(radius * np.stack([np.cos(turn), np.sin(turn)], 1), size)
        for ends in np.stack([ring[:-1], ring[1:]], 1):
            lines.line(canvas, ends, GRID)
        lines.text(canvas, f"{radius} m", tuple(to_pixels(np.array([0.0, radius]), size)), GRID, 0.35)
    vehicle = to_pixels(np.array([[-0.9, -2.0], [0.0, 2.5], [0.9, -2.0], [-0.9, -2.0]]), size)
    for ends in np.stack([vehicle[:-1], vehicle[1:]], 1):
        lines.line(canvas, ends, INK)


def _draw_radar(canvas: np.ndarray, radar: np.ndarray) -> None:
    """Points, the older the darker, and a line for where each moves within half an arrow's time."""
    size = len(canvas)
    at = to_pixels(radar, size)
    ends = to_pixels(radar[:, :2] + radar[:, 4:6] * _ARROW_SECONDS / 2, size)
    oldest = max(float(radar[:, 6].max(initial=0)), 1e-3)
    for point, end, velocity, lag in zip(at, ends, radar[:, 4:6], radar[:, 6], strict=True):
        if not ((point >= 0) & (point < size)).all():
            continue
        shade = 1 - 0.6 * min(max(float(lag) / oldest, 0), 1)
        red, green, blue = (round(channel * shade) for channel in RADAR)
        if np.linalg.norm(velocity) > _SLOWEST:
            lines.line(canvas, np.stack([point, end]), (red // 2, green // 2, blue // 2))
        lines.dot(canvas, point, 1.5, (red, green, blue))


def _draw_layer(canvas: np.ndarray, layer: Layer) -> None:
    size = len(canvas)
    boxes, colours = layer.found.boxes, layer.colours()
    footprints = to_pixels(corners(boxes)[:, :4], size)
    for i, corner in enumerate(footprints):
        if not ((corner.mean(0) >= 0) & (corner.mean(0) < size)).all():
            continue
        outline = np.stack([corner, np.roll(corner, -1, 0)], 1)
        nose = np.stack([corner.mean(0), (corner[0] + corner[3]) / 2])
        for ends in (*outline, nose):
            lines.line(canvas, ends, colours[i], 1 if layer.dashed else 2, dashed=layer.dashed)
        if np.linalg.norm(boxes[i, 7:9]) > _SLOWEST:
            target = to_pixels(boxes[i, :2] + boxes[i, 7:9] * _ARROW_SECONDS, size)
            _draw_arrow(canvas, corner.mean(0), target, INK if layer.dashed else colours[i], layer.dashed)


def _draw_arrow(canvas: np.ndarray, begin: np.ndarray, end: np.ndarray, colour: lines.Colour, dashed: bool) -> None:
    lines.line(canvas, np.stack([begin, end]), colour, dashed=dashed)
    back = (begin - end) / max(float(np.linalg.norm(begin - end)), 1e-9) * 6
    for turn in (0.5, -0.5):
        cos, sin = np.cos(turn), np.sin(turn)
        wing = np.array([back[0] * cos - back[1] * sin, back[0] * sin + back[1] * cos])
        lines.line(canvas, np.stack([end, end + wing]), colour)
