"""What there is in a scene: nuScenes' ten detection classes and scenery, with sizes and how sensors see them."""

from __future__ import annotations

from dataclasses import dataclass

Colour = tuple[int, int, int]  # blue, green, red

_WHITE: Colour = (225, 225, 225)
_PAINTS: tuple[Colour, ...] = (
    (48, 60, 196),
    (232, 236, 236),
    (132, 84, 58),
    (46, 42, 40),
    (176, 172, 168),
    (60, 140, 90),
)
_CLOTHES: tuple[Colour, ...] = ((60, 52, 180), (150, 80, 40), (64, 60, 60), (70, 168, 204), (96, 120, 70))


@dataclass(frozen=True)
class Kind:
    """One sort of thing.

    Attributes:
        category: nuScenes' name; empty for scenery, which is not annotated.
        size: mean length, width, height in metres.
        rcs: mean radar cross-section, dBsm.
        reflections: mean number of radar reflections nearby.
        intensity: mean LiDAR intensity, 0 to 255.
        paints: body colours to choose from.
        attributes: nuScenes' attribute when moving, in the traffic but standing, and parked; empty: it has none.
        range: metres from the ego within which nuScenes evaluates the class; 0 for scenery.
    """

    name: str
    category: str
    size: tuple[float, float, float]
    rcs: float
    reflections: float
    intensity: float
    paints: tuple[Colour, ...]
    attributes: tuple[str, ...] = ()
    range: float = 0.0


_VEHICLE = ("vehicle.moving", "vehicle.stopped", "vehicle.parked")
_CYCLE = ("cycle.with_rider", "cycle.with_rider", "cycle.without_rider")
_PEDESTRIAN = ("pedestrian.moving", "pedestrian.standing", "pedestrian.sitting_lying_down")

_TRUCKS: tuple[Colour, ...] = ((200, 120, 40), (50, 50, 190), (210, 210, 210))
_METALS: tuple[Colour, ...] = ((190, 195, 190), (150, 160, 140))
_YELLOW: Colour = (20, 180, 235)
_WALLS: tuple[Colour, ...] = ((122, 150, 188), (174, 194, 206), (168, 158, 150), (88, 108, 172))

KINDS = {
    kind.name: kind
    for kind in (
        Kind("car", "vehicle.car", (4.6, 1.95, 1.7), 10, 4, 40, _PAINTS, _VEHICLE, 50),
        Kind("truck", "vehicle.truck", (7.0, 2.5, 2.9), 17, 6, 35, _TRUCKS, _VEHICLE, 50),
        Kind("bus", "vehicle.bus.rigid", (11.0, 2.9, 3.4), 19, 8, 35, ((116, 108, 38), (40, 170, 220)), _VEHICLE, 50),
        Kind("trailer", "vehicle.trailer", (9.5, 2.6, 3.6), 17, 6, 45, _METALS, _VEHICLE, 50),
        Kind("construction_vehicle", "vehicle.construction", (6.2, 2.7, 3.1), 15, 5, 30, (_YELLOW,), _VEHICLE, 50),
        Kind("bicycle", "vehicle.bicycle", (1.75, 0.62, 1.45), 0, 1.4, 25, _CLOTHES, _CYCLE, 40),
        Kind("motorcycle", "vehicle.motorcycle", (2.15, 0.8, 1.5), 4, 1.8, 25, _PAINTS, _CYCLE, 40),
        Kind("pedestrian", "human.pedestrian.adult", (0.7, 0.66, 1.75), -4, 1.2, 20, _CLOTHES, _PEDESTRIAN, 40),
        Kind("traffic_cone", "movable_object.trafficcone", (0.42, 0.42, 1.0), -8, 0.7, 70, ((20, 110, 250),), (), 30),
        Kind("barrier", "movable_object.barrier", (0.55, 2.5, 1.0), 3, 1.6, 60, ((40, 50, 215), _WHITE), (), 30),
        Kind("building", "", (20.0, 14.0, 11.0), 12, 5, 30, _WALLS),
        Kind("pole", "", (0.28, 0.28, 6.0), 2, 0.8, 50, ((120, 120, 116),)),
    )
}

CLASSES = tuple(name for name, kind in KINDS.items() if kind.category)
