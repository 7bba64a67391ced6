"""Colours, RGB: one per class, far enough apart on dark and light ground."""

from __future__ import annotations

CLASS_COLOURS = {
    "car": (255, 158, 0),
    "truck": (255, 99, 71),
    "trailer": (255, 140, 160),
    "bus": (255, 69, 200),
    "construction_vehicle": (233, 196, 106),
    "bicycle": (190, 120, 255),
    "motorcycle": (120, 130, 255),
    "pedestrian": (64, 190, 255),
    "traffic_cone": (60, 225, 190),
    "barrier": (150, 215, 90),
}
OTHER = (200, 200, 200)  # classes of configs that name others
PAPER = (24, 28, 34)
INK = (236, 240, 245)
GRID = (58, 66, 78)
RADAR = (255, 255, 120)


def colour(class_name: str) -> tuple[int, int, int]:
    """Of a class's boxes."""
    return CLASS_COLOURS.get(class_name, OTHER)
