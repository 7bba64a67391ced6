"""Who is on the road: lanes of things that keep their distance, because all of a lane move alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from racdino.synthetic.kinds import KINDS, Colour, Kind
from racdino.synthetic.road import Road

MOVING, STOPPED, PARKED = 0, 1, 2  # as the attributes of a kind are ordered
EGO_GAP = 19.0  # metres of the ego's lane that are kept free before and behind it


@dataclass(frozen=True)
class Motion:
    """Arc length travelled by time t: a mean speed and a slow swing about it, m/s, negative against the curve."""

    speed: float = 0.0
    swing: float = 0.0
    phase: float = 0.0
    frequency: float = 0.7  # rad/s

    def travelled(self, t: float) -> float:
        turn = np.sin(self.frequency * t + self.phase) - np.sin(self.phase)
        return self.speed * t + self.swing / self.frequency * float(turn)


@dataclass(frozen=True)
class LanePlan:
    """Things beside each other's path: an offset from the middle of the road, gaps and the kinds in turn."""

    offset: float
    gap: tuple[float, float]
    deck: tuple[str, ...]
    speed: tuple[float, float] = (0.0, 0.0)
    state: int = MOVING
    jitter: float = 0.0  # sideways, metres


@dataclass(frozen=True)
class Thing:
    """One thing of a scene, placed at time 0.

    Attributes:
        size: length, width, height.
        arc, offset: where on the road, metres along and to the left.
        turn: yaw against the road's direction.
        motion: how its arc length changes.
        attribute: nuScenes' name, or empty.
    """

    kind: Kind
    size: tuple[float, float, float]
    paint: Colour
    arc: float
    offset: float
    turn: float
    motion: Motion
    attribute: str


EGO_OFFSET = -1.75
_MIXED = ("car", "truck", "car", "bus", "motorcycle", "car", "trailer", "truck")
_PARKED = ("car", "construction_vehicle", "car", "bicycle", "trailer", "car", "motorcycle", "truck")
_PEOPLE = ("pedestrian",)

LANES = (
    LanePlan(EGO_OFFSET, (26, 40), _MIXED, state=MOVING),  # moves with the ego
    LanePlan(-5.25, (34, 60), ("trailer", "car", "truck", "car", "construction_vehicle", "car"), (4.5, 11)),
    LanePlan(1.75, (30, 56), ("bus", "car", "motorcycle", "car", "truck", "car", "trailer"), (-11, -5)),
    LanePlan(5.25, (30, 60), ("car", "truck", "car", "bus"), state=STOPPED, jitter=0.2),
    LanePlan(-7.4, (30, 46), ("bicycle", "motorcycle", "bicycle"), (3, 5.5)),
    LanePlan(-9.75, (22, 34), _PARKED, state=PARKED, jitter=0.1),
    LanePlan(9.75, (22, 34), _PARKED[::-1], state=PARKED, jitter=0.1),
    LanePlan(-11.9, (15, 25), ("traffic_cone", "barrier"), state=PARKED, jitter=0.1),
    LanePlan(11.9, (15, 25), ("barrier", "traffic_cone"), state=PARKED, jitter=0.1),
    LanePlan(-13.4, (24, 44), _PEOPLE, (0.8, 1.6), jitter=0.3),
    LanePlan(13.4, (24, 44), _PEOPLE, (-1.6, -0.8), jitter=0.3),
    LanePlan(-15.0, (40, 80), _PEOPLE, state=STOPPED, jitter=0.3),
    LanePlan(15.0, (60, 110), _PEOPLE, state=PARKED, jitter=0.3),
    LanePlan(-12.6, (32, 48), ("pole",), state=PARKED),
    LanePlan(12.6, (32, 48), ("pole",), state=PARKED),
    LanePlan(-28.0, (26, 44), ("building",), state=PARKED, jitter=2.0),
    LanePlan(28.0, (52, 76), ("building",), state=PARKED, jitter=2.0),
)


def ego_motion(random: np.random.Generator) -> Motion:
    return Motion(random.uniform(5.5, 9.5), random.uniform(0, 1.2), random.uniform(0, 2 * np.pi))


def populate(road: Road, ego_arc: float, ego: Motion, random: np.random.Generator) -> list[Thing]:
    """Things all the way round ``road`` for an ego that starts at ``ego_arc``."""
    return [thing for plan in LANES for thing in _fill(plan, road, ego_arc, ego, random)]


def _fill(plan: LanePlan, road: Road, ego_arc: float, ego: Motion, random: np.random.Generator) -> list[Thing]:
    with_ego = plan.offset == EGO_OFFSET
    speed = random.uniform(*plan.speed)
    motion = ego if with_ego else Motion(speed, 0.12 * speed, random.uniform(0, 2 * np.pi))
    # Beside the ego's lane the first thing stands at a random distance behind the start, so that scenes differ.
    distance = EGO_GAP + random.uniform(0, 8) if with_ego else random.uniform(-0.5, 0.5) * plan.gap[0]
    turn_of_deck = int(random.integers(len(plan.deck)))
    things: list[Thing] = []
    while distance < road.length - (EGO_GAP if with_ego else plan.gap[0]):
        kind = KINDS[plan.deck[(len(things) + turn_of_deck) % len(plan.deck)]]
        things.append(_make(kind, plan, ego_arc + distance, motion, random))
        distance += random.uniform(*plan.gap)
    return things


def _make(kind: Kind, plan: LanePlan, arc: float, motion: Motion, random: np.random.Generator) -> Thing:
    spread = 0.25 if kind.name == "building" else 0.06
    length, width, height = (round(float(side * random.uniform(1 - spread, 1 + spread)), 3) for side in kind.size)
    turn = np.pi if motion.speed < 0 or (plan.offset > 0 and plan.state == STOPPED) else 0.0
    if plan.state == PARKED:
        turn = random.choice([0.0, np.pi]) + random.uniform(-0.02, 0.02)
    if kind.name == "pedestrian" and plan.state != MOVING:
        turn = random.uniform(-np.pi, np.pi)
    if kind.name == "barrier":
        turn += np.pi / 2  # it is wider than long and stands along the kerb
    if kind.name == "pedestrian" and plan.state == PARKED:
        height = round(height * 0.72, 3)  # sitting
    return Thing(
        kind=kind,
        size=(length, width, height),
        paint=kind.paints[int(random.integers(len(kind.paints)))],
        arc=float(arc),
        offset=plan.offset + random.uniform(-plan.jitter, plan.jitter),
        turn=float(turn),
        motion=motion,
        attribute=kind.attributes[plan.state] if kind.attributes else "",
    )
