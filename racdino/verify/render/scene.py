"""What stands in the street: shapes made of convex faces and of balls, all drawn from one random generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

LANE = 3.5
ROAD = (-1.5 * LANE, 2.5 * LANE)  # the ego car drives in the second lane from the right
PAVEMENT = 3.0
CROSSING = (21.0, 32.0)  # x of a side street
STRIPES = (16.0, 19.5)  # x of a zebra crossing

GLASS = np.array([46, 58, 70.0])
RUBBER = np.array([26, 26, 28.0])
CAR_PAINT = np.array(
    [[196, 60, 48], [236, 236, 232], [58, 84, 132], [40, 42, 46], [168, 172, 176], [214, 164, 52], [70, 116, 98]], float
)
WALLS = np.array(
    [[188, 150, 122], [206, 194, 174], [150, 158, 168], [172, 108, 88], [222, 212, 196], [128, 136, 142]], float
)
LEAVES = np.array([[88, 124, 58], [106, 138, 64], [72, 108, 60], [134, 138, 62]], float)
CLOTHES = np.array([[180, 52, 60], [44, 70, 120], [60, 60, 64], [204, 168, 70], [70, 120, 96]], float)

Span = Sequence[float]  # low, high


@dataclass(frozen=True)
class Face:
    """A convex polygon, (n, 3) in order around its edge; ``glow`` faces ignore the sun."""

    corners: np.ndarray
    colour: np.ndarray
    glow: bool = False


@dataclass(frozen=True)
class Ball:
    """A leaf cluster or a head."""

    centre: np.ndarray
    radius: float
    colour: np.ndarray


@dataclass
class Shape:
    """One object; its faces are drawn together, far ones first."""

    faces: list[Face] = field(default_factory=list)
    details: list[Face] = field(default_factory=list)  # on the faces: windows, wheels, lamps
    balls: list[Ball] = field(default_factory=list)

    def points(self) -> np.ndarray:
        return np.concatenate([face.corners for face in self.faces])


def build_scene(random: np.random.RandomState) -> list[Shape]:
    """The street of ``random``: buildings, trees, lamps, cars and people."""
    return [*_buildings(random), *_trees(random), *_lamps(), *_traffic(random), *_people(random)]


def _buildings(random: np.random.RandomState) -> list[Shape]:
    shapes = []
    for side, edge in ((1, ROAD[1] + PAVEMENT), (-1, ROAD[0] - PAVEMENT)):
        x = -95.0
        while x < 130:
            length, height = random.uniform(9, 19), random.uniform(7, 22)
            setback, gap = random.uniform(1.5, 7), random.choice([0.0, 0.0, 3.0])
            colour = WALLS[random.randint(len(WALLS))] * random.uniform(0.85, 1.05)
            if x + length < CROSSING[0] - 2 or x > CROSSING[1] + 2:
                near = edge + side * setback
                shapes.append(_building((x, x + length), sorted((near, near + side * 12)), height, colour, random))
            x += length + gap
    return shapes


def _building(xs: Span, ys: Span, height: float, colour: np.ndarray, random: np.random.RandomState) -> Shape:
    shape = Shape(_box(xs, ys, (0, height), colour))
    roof = _box((xs[0] - 0.3, xs[1] + 0.3), (ys[0] - 0.3, ys[1] + 0.3), (height, height + 0.5), colour * 0.72)
    for face in shape.faces[:4]:
        shape.details += _windows(face.corners, height, random)
    shape.faces += roof
    return shape


def _windows(wall: np.ndarray, height: float, random: np.random.RandomState) -> list[Face]:
    """Panes in rows of 3 m and columns of about 2.6 m on a wall given as lower left, lower right, upper ones."""
    a, b, _, d = wall
    across, up = b - a, d - a
    rows, columns = int((height - 0.8) // 3.0), max(1, int(np.linalg.norm(across) // 2.6))
    panes = []
    for row in range(rows):
        for column in range(columns):
            u0, u1 = (column + 0.24) / columns, (column + 0.76) / columns
            v0, v1 = (row * 3.0 + 0.9) / height, (row * 3.0 + 2.5) / height
            corners = np.array([a + across * u + up * v for u, v in ((u0, v0), (u1, v0), (u1, v1), (u0, v1))])
            panes.append(Face(corners, GLASS * random.uniform(0.75, 2.0)))
    return panes


def _trees(random: np.random.RandomState) -> list[Shape]:
    shapes = []
    for y in (ROAD[1] + 1.2, ROAD[0] - 1.2):
        for x in np.arange(-58, 90, 9.5):
            x, base = x + random.uniform(-1.5, 1.5), LEAVES[random.randint(len(LEAVES))]
            if CROSSING[0] - 3 < x < CROSSING[1] + 3 or abs(x) < 3:
                continue
            height = random.uniform(4.2, 6.4)
            trunk = _box((x - 0.14, x + 0.14), (y - 0.14, y + 0.14), (0, height * 0.6), np.array([96, 74, 56.0]))
            offsets = random.normal(0, [0.62, 0.62, 0.62], (22, 3))
            balls = [
                Ball(np.array([x, y, height * 0.82]) + o, random.uniform(0.42, 0.78), base * (0.86 + 0.17 * o[2]))
                for o in offsets[np.argsort(offsets[:, 2])]
            ]
            shapes.append(Shape(trunk, balls=balls))
    return shapes


def _lamps() -> list[Shape]:
    grey = np.array([92, 96, 100.0])
    shapes = []
    for x in (-34, -12, 13, 40, 66):
        for y, arm in ((ROAD[1] + 0.5, -1.6), (ROAD[0] - 0.5, 1.6)):
            pole = _box((x - 0.07, x + 0.07), (y - 0.07, y + 0.07), (0, 6.4), grey)
            head = _box((x - 0.12, x + 0.12), sorted((y, y + arm)), (6.35, 6.5), grey)
            shapes.append(Shape(pole + head))
    return shapes


def _traffic(random: np.random.RandomState) -> list[Shape]:
    """Places are chosen so that every camera sees something near; colours are random."""
    paint = list(random.permutation(len(CAR_PAINT)))
    places = [  # x, y, heading in degrees
        (11.5, 0.2, 0), (7.5, 5.4, 180), (30.0, 7.0, 180), (38.0, -3.4, 0), (13.0, -3.6, 0),
        (-9.5, -0.1, 0), (-13.0, 5.3, 180), (-24.0, 0.2, 0), (-5.0, -4.0, 0), (-2.6, 6.9, 180),
        (25.0, 17.0, 90), (28.0, -13.0, -90),
    ]  # fmt: skip
    shapes = [_car(x, y, heading, CAR_PAINT[paint[i % len(paint)]]) for i, (x, y, heading) in enumerate(places)]
    return [*shapes, _bus(-33, 6.6), _bus(52, 0.2)]


def _car(x: float, y: float, heading: float, paint: np.ndarray) -> Shape:
    body = _prism((-2.2, 2.2), (-2.25, 2.25), 0.92, 0.92, (0.28, 0.92), paint)
    cabin = _prism((-1.75, 1.05), (-1.25, 0.45), 0.86, 0.70, (0.92, 1.5), GLASS)
    cabin[4] = Face(cabin[4].corners, paint)  # the roof
    shape = Shape(body + cabin)
    for wheel_x in (-1.38, 1.38):
        for side in (-0.935, 0.935):
            angle = np.linspace(0, 2 * np.pi, 14, endpoint=False) * np.sign(side)
            rim = [wheel_x + 0.34 * np.sin(angle), np.full(14, side), 0.34 + 0.34 * np.cos(angle)]
            shape.details.append(Face(np.stack(rim, 1), RUBBER, glow=True))
            hub = [wheel_x + 0.17 * np.sin(angle), np.full(14, side), 0.34 + 0.17 * np.cos(angle)]
            shape.details.append(Face(np.stack(hub, 1), np.array([150, 152, 156.0]), glow=True))
    for side in (-1, 1):
        ys = sorted((side * 0.86, side * 0.5))
        shape.details.append(_lamp(-2.265, ys, np.array([206, 30, 28.0])))
        shape.details.append(_lamp(2.265, ys, np.array([250, 246, 226.0])))
    plate = np.array([214, 214, 206.0])
    shape.details.append(Face(_quad_x(-2.27, (-0.26, 0.26), (0.48, 0.6)), plate, glow=True))
    return _placed(shape, x, y, heading)


def _bus(x: float, y: float) -> Shape:
    colour = np.array([38, 108, 116.0])
    shape = Shape(_prism((-5.5, 5.5), (-5.5, 5.5), 1.27, 1.25, (0.35, 3.1), colour))
    for side in (-1.275, 1.275):
        for start in np.arange(-5.0, 4.6, 1.6):
            corners = np.array(
                [[start, side, 1.5], [start + 1.4, side, 1.5], [start + 1.4, side, 2.6], [start, side, 2.6]]
            )
            shape.details.append(Face(corners[:: int(-np.sign(side))], GLASS))
    for end in (-5.51, 5.51):
        shape.details.append(Face(_quad_x(end, (-1.1, 1.1), (1.4, 2.7)), GLASS))
    return _placed(shape, x, y, 0)


def _people(random: np.random.RandomState) -> list[Shape]:
    places = [
        (17.2, -2.0),
        (18.1, 3.1),
        (9.0, ROAD[1] + 1.9),
        (-3.2, ROAD[0] - 1.8),
        (2.4, ROAD[0] - 1.5),
        (-10, ROAD[1] + 1.6),
    ]
    shapes = []
    for x, y in places:
        top, trousers = CLOTHES[random.randint(len(CLOTHES))], np.array([52, 56, 70.0]) * random.uniform(0.7, 1.3)
        legs = _box((x - 0.11, x + 0.11), (y - 0.17, y + 0.17), (0, 0.85), trousers)
        torso = _box((x - 0.14, x + 0.14), (y - 0.24, y + 0.24), (0.85, 1.45), top)
        shapes.append(Shape(legs + torso, balls=[Ball(np.array([x, y, 1.6]), 0.13, np.array([196, 152, 126.0]))]))
    return shapes


# ---- solids; outward faces run counter-clockwise seen from outside ---------------------------------------------------


def _box(xs: Span, ys: Span, zs: Span, colour: np.ndarray) -> list[Face]:
    """Four walls, then top and bottom, of an upright box."""
    half = (ys[1] - ys[0]) / 2
    return [
        Face(face.corners + np.array([0, ys[0] + half, 0]), face.colour)
        for face in _prism(xs, xs, half, half, zs, colour)
    ]


def _prism(
    bottom_x: Span, top_x: Span, bottom_half: float, top_half: float, zs: Span, colour: np.ndarray
) -> list[Face]:
    """A box whose top may be smaller: four walls, top, bottom."""
    (x0, x1), (t0, t1), (z0, z1) = bottom_x, top_x, zs
    low = np.array(
        [[x0, -bottom_half, z0], [x1, -bottom_half, z0], [x1, bottom_half, z0], [x0, bottom_half, z0]], float
    )
    high = np.array([[t0, -top_half, z1], [t1, -top_half, z1], [t1, top_half, z1], [t0, top_half, z1]], float)
    walls = [np.array([low[i], low[(i + 1) % 4], high[(i + 1) % 4], high[i]]) for i in range(4)]
    return [Face(corners, colour) for corners in [*walls, high, low[::-1]]]


def _quad_x(x: float, ys: Span, zs: Span) -> np.ndarray:
    """A rectangle across the car at ``x``, facing away from its middle."""
    corners = np.array([[x, ys[0], zs[0]], [x, ys[1], zs[0]], [x, ys[1], zs[1]], [x, ys[0], zs[1]]], float)
    return corners if x > 0 else corners[::-1]


def _lamp(x: float, ys: Span, colour: np.ndarray) -> Face:
    return Face(_quad_x(x, ys, (0.64, 0.8)), colour, glow=True)


def _placed(shape: Shape, x: float, y: float, heading: float) -> Shape:
    """``shape`` turned to ``heading`` (degrees to the left) and moved."""
    a = np.radians(heading)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])

    def moved(faces: list[Face]) -> list[Face]:
        return [Face(face.corners @ turn.T + np.array([x, y, 0]), face.colour, face.glow) for face in faces]

    return Shape(moved(shape.faces), moved(shape.details))
