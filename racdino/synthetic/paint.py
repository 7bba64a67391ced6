"""What a thing's sides look like: small pictures that are stretched over the faces of its cuboid."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from racdino.synthetic.kinds import KINDS, Colour

SIZE = 96  # pixels; the first row is the upper edge
_GLASS, _RUBBER, _DARK, _WHITE = (74, 62, 50), (30, 28, 28), (48, 46, 44), (228, 230, 230)
_LAMP, _REAR = (215, 245, 250), (30, 30, 210)
_SKIN, _TROUSERS = (130, 156, 200), (72, 58, 54)


@lru_cache(maxsize=2048)
def picture(name: str, side: str, paint: Colour, upright: bool) -> tuple[np.ndarray, ...]:
    """The side of a thing in full, half, quarter ... size, each (s, s, 3) uint8 blue, green, red.

    Args:
        name: a kind's name.
        upright: whether a cycle has its rider.
    """
    image = np.empty((SIZE, SIZE, 3), np.uint8)
    image[:] = paint
    _PAINTERS[name](image, side, KINDS[name].size, upright)
    levels = [image]
    while levels[-1].shape[0] > 3:
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    return tuple(levels)


def _area(image: np.ndarray, x: tuple[float, float], y: tuple[float, float], colour: Colour) -> None:
    """Fill a rectangle given in parts of the side; y counts from the top."""
    a, b = (np.round(np.array(span) * SIZE).astype(int) for span in (x, y))
    image[b[0] : b[1], a[0] : a[1]] = colour


def _wheels(image: np.ndarray, size: tuple[float, float, float], places: tuple[float, ...], radius: float) -> None:
    """Wheels of ``radius`` metres on a long side."""
    axes = radius / size[0] * SIZE, radius / size[2] * SIZE
    for place in places:
        middle = round(place * SIZE), round(SIZE - axes[1])
        cv2.ellipse(image, middle, (round(axes[0]), round(axes[1])), 0, 0, 360, _RUBBER, -1)
        cv2.ellipse(image, middle, (round(axes[0] * 0.5), round(axes[1] * 0.5)), 0, 0, 360, (150, 150, 150), -1)


def _ends(image: np.ndarray, side: str, glass: tuple[float, float]) -> None:
    """Windscreen, lamps and bumper of a vehicle's front or back."""
    _area(image, (0.08, 0.92), glass, _GLASS)
    colour = _LAMP if side == "front" else _REAR
    for x in ((0.05, 0.22), (0.78, 0.95)):
        _area(image, x, (0.62, 0.72), colour)
    _area(image, (0, 1), (0.84, 1), _DARK)


def _car(image: np.ndarray, side: str, size: tuple[float, float, float], _: bool) -> None:
    if side in ("front", "back"):
        _ends(image, side, (0.08, 0.42))
    elif side == "top":
        _area(image, (0.2, 0.3), (0.08, 0.92), _GLASS)
        _area(image, (0.62, 0.76), (0.08, 0.92), _GLASS)
    else:
        _area(image, (0.16, 0.78), (0.06, 0.42), _GLASS)
        _area(image, (0.45, 0.48), (0.06, 0.42), _DARK)
        _area(image, (0, 1), (0.86, 1), _DARK)
        _wheels(image, size, (0.19, 0.81), 0.34)


def _truck(image: np.ndarray, side: str, size: tuple[float, float, float], _: bool) -> None:
    if side == "front":
        _ends(image, side, (0.12, 0.45))
    elif side == "back":
        _area(image, (0.04, 0.96), (0.03, 0.8), _WHITE)
        _area(image, (0.49, 0.51), (0.03, 0.8), _DARK)
        _ends(image, side, (0.8, 0.8))
    elif side == "top":
        _area(image, (0.0, 0.72), (0, 1), _WHITE)
    else:
        cab = side == "right"  # seen from the right the front is on the right
        box, window = ((0.0, 0.72), (0.78, 0.95)) if cab else ((0.28, 1.0), (0.05, 0.22))
        _area(image, box, (0.0, 0.76), _WHITE)
        _area(image, window, (0.14, 0.42), _GLASS)
        _area(image, (0, 1), (0.8, 1), _DARK)
        _wheels(image, size, (0.14, 0.3, 0.84) if cab else (0.16, 0.7, 0.86), 0.48)


def _bus(image: np.ndarray, side: str, size: tuple[float, float, float], _: bool) -> None:
    if side in ("front", "back"):
        _ends(image, side, (0.1, 0.56))
    elif side != "top":
        for start in np.arange(0.03, 0.95, 0.12):
            _area(image, (start, start + 0.1), (0.16, 0.52), _GLASS)
        _area(image, (0, 1), (0.62, 0.68), _WHITE)
        _wheels(image, size, (0.2, 0.8), 0.5)


def _trailer(image: np.ndarray, side: str, size: tuple[float, float, float], _: bool) -> None:
    for start in np.arange(0.0, 1.0, 0.125):
        _area(image, (start, start + 0.03), (0, 0.72), (140, 140, 140))
    if side != "top":
        _area(image, (0, 1), (0.72, 1), _DARK)
        _area(image, (0, 1), (0.68, 0.72), _REAR)
        if side in ("left", "right"):
            _wheels(image, size, (0.1, 0.22) if side == "right" else (0.78, 0.9), 0.5)


def _construction_vehicle(image: np.ndarray, side: str, size: tuple[float, float, float], _: bool) -> None:
    if side == "top":
        _area(image, (0.3, 0.6), (0.2, 0.8), _DARK)
        return
    for start in np.arange(0, 1, 0.25):
        corners = np.array([[start, 0.7], [start + 0.12, 0.7], [start + 0.24, 0.56], [start + 0.12, 0.56]]) * SIZE
        cv2.fillConvexPoly(image, corners.astype(np.int32), _DARK)
    _area(image, (0.3, 0.62), (0.05, 0.4), _GLASS)
    _area(image, (0.0, 1.0), (0.78, 1.0), _RUBBER)
    for start in np.arange(0.02, 0.95, 0.1):
        _area(image, (start, start + 0.05), (0.83, 0.95), (90, 90, 90))


def _cycle(image: np.ndarray, side: str, size: tuple[float, float, float], rider: bool, heavy: bool) -> None:
    blue, green, red = (int(value) for value in image[0, 0])
    body = (blue, green, red)
    _area(image, (0, 1), (0, 1), (112, 108, 106))  # about the road: what one would see past it
    if rider:
        _area(image, (0.3, 0.7), (0.14, 0.62), body)
        _area(image, (0.36, 0.64), (0.0, 0.15), _SKIN if not heavy else _DARK)
    if side in ("left", "right"):
        _wheels(image, size, (0.2, 0.8), 0.33)
        _area(image, (0.2, 0.8), (0.5, 0.72) if heavy else (0.58, 0.64), body)
    else:
        _area(image, (0.42, 0.58), (0.45, 1), _RUBBER)
        _area(image, (0.05, 0.95), (0.4, 0.46), body)
    if heavy:
        _area(image, (0.8, 1.0) if side == "right" else (0.0, 0.2), (0.4, 0.5), _LAMP)


def _bicycle(image: np.ndarray, side: str, size: tuple[float, float, float], rider: bool) -> None:
    _cycle(image, side, size, rider, heavy=False)


def _motorcycle(image: np.ndarray, side: str, size: tuple[float, float, float], rider: bool) -> None:
    _cycle(image, side, size, rider, heavy=True)


def _pedestrian(image: np.ndarray, side: str, size: tuple[float, float, float], _: bool) -> None:
    if side == "top":
        _area(image, (0.3, 0.7), (0.3, 0.7), _DARK)
        return
    _area(image, (0, 1), (0.0, 0.16), (110, 112, 112))
    _area(image, (0.3, 0.7), (0.0, 0.15), _SKIN if side == "front" else _DARK)
    _area(image, (0, 1), (0.54, 1), _TROUSERS)
    _area(image, (0.46, 0.54), (0.58, 1), (120, 120, 118))


def _traffic_cone(image: np.ndarray, side: str, size: tuple[float, float, float], _: bool) -> None:
    if side != "top":
        for top in (0.15, 0.48):
            _area(image, (0, 1), (top, top + 0.17), _WHITE)
        _area(image, (0, 1), (0.9, 1), _DARK)


def _barrier(image: np.ndarray, side: str, size: tuple[float, float, float], _: bool) -> None:
    if side == "top":
        return
    other = _WHITE if int(image[0, 0, 1]) < 128 else (40, 50, 215)
    for start in np.arange(-0.5, 1, 0.25):
        corners = np.array([[start, 1.0], [start + 0.125, 1.0], [start + 0.625, 0.0], [start + 0.5, 0.0]]) * SIZE
        cv2.fillConvexPoly(image, corners.astype(np.int32), other)


def _building(image: np.ndarray, side: str, size: tuple[float, float, float], _: bool) -> None:
    if side == "top":
        return
    for row in np.arange(0.06, 0.9, 0.25):
        for column in np.arange(0.06, 0.95, 0.16):
            _area(image, (column, column + 0.09), (row, row + 0.13), _GLASS)


def _pole(image: np.ndarray, side: str, size: tuple[float, float, float], _: bool) -> None:
    _area(image, (0.7, 1.0), (0, 1), (92, 92, 90))


_PAINTERS = {
    "car": _car, "truck": _truck, "bus": _bus, "trailer": _trailer, "construction_vehicle": _construction_vehicle,
    "bicycle": _bicycle, "motorcycle": _motorcycle, "pedestrian": _pedestrian, "traffic_cone": _traffic_cone,
    "barrier": _barrier, "building": _building, "pole": _pole,
}  # fmt: skip
