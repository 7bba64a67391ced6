"""The ground of a location as an image, and its map: road, lane paint, pavement, grass."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np

from racdino.synthetic.road import EXTENT, KERB, LANE, PAVEMENT, Road
from racdino.synthetic.seeding import generator

RESOLUTION = 0.1  # metres per pixel; nuScenes' maps have the same
GRASS = (78, 126, 112)  # blue, green, red
_PAVED, _ASPHALT, _PAINT, _KERBSTONE = (153, 161, 166), (103, 99, 98), (205, 208, 210), (184, 190, 192)
_SUBPIXEL = 4  # bits


def pixels_from_global() -> np.ndarray:
    """(3, 3): homogeneous global x, y -> column, row of the ground's image, whose first row is the north edge."""
    scale = 1 / RESOLUTION
    return np.array([[scale, 0, -0.5], [0, -scale, EXTENT * scale - 0.5], [0, 0, 1]])


def draw_map(road: Road) -> np.ndarray:
    """(4000, 4000) uint8, 255 on road and pavement: nuScenes' semantic prior."""
    mask = np.zeros((round(EXTENT / RESOLUTION),) * 2, np.uint8)
    _stroke(mask, road.line(0), 2 * PAVEMENT, 255)
    return mask


@lru_cache(maxsize=1)  # 48 MB; the scenes of one process come location by location
def draw_ground(location: str, seed: int) -> np.ndarray:
    """(4000, 4000, 3) uint8, blue, green, red."""
    road = Road(location, seed)
    side = round(EXTENT / RESOLUTION)
    image = np.empty((side, side, 3), np.uint8)
    image[:] = GRASS
    for width, colour in ((2 * PAVEMENT, _PAVED), (2 * KERB + 0.4, _KERBSTONE), (2 * KERB, _ASPHALT)):
        _stroke(image, road.line(0), width, colour)
    for offset in (-0.15, 0.15, 2 * LANE + 0.8, -2 * LANE - 0.8):
        _stroke(image, road.line(offset), 0.14, _PAINT)
    for start in np.arange(0, road.length - 3, 9.0):
        for offset in (-LANE, LANE):
            _stroke(image, road.line(offset, start, start + 3), 0.14, _PAINT)
    for start in np.arange(0, road.length - 5, 6.0):
        for sign in (-1, 1):
            _stroke(image, road.line(sign * (PAVEMENT - 2.5), start, start + 5.8), 4.0, (145, 152, 158))
    tile = generator(seed, "grain").integers(0, 26, (500, 500, 1), dtype=np.uint8)
    tile = cv2.GaussianBlur(tile, (0, 0), 0.8)
    image = cv2.GaussianBlur(image, (0, 0), 0.8)
    return cv2.subtract(image, np.tile(tile[..., None], (side // 500, side // 500, 3)))


def _stroke(image: np.ndarray, line: np.ndarray, width: float, colour: tuple[int, ...] | int) -> None:
    """Paint a strip of ``width`` metres along ``line`` (n, 2), as quads so that any width is exact."""
    along = np.gradient(line, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    left = np.stack([-along[:, 1], along[:, 0]], -1) * width / 2
    edges = np.stack([line + left, line - left], 1)
    edges = edges @ pixels_from_global()[:2, :2].T + pixels_from_global()[:2, 2]
    fixed = np.round(edges * 2**_SUBPIXEL).astype(np.int32)
    for a, b in pairwise(fixed):
        cv2.fillConvexPoly(image, np.array([a[0], b[0], b[1], a[1]]), colour, cv2.LINE_8, _SUBPIXEL)
