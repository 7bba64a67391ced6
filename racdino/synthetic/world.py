"""A scene as a function of time: where everything is, how fast, and where the ego car is."""

from __future__ import annotations

import numpy as np

from racdino.synthetic import traffic
from racdino.synthetic.geometry import Boxes, pose
from racdino.synthetic.road import Road
from racdino.synthetic.seeding import generator

_STEP = 1e-3  # seconds; velocities are central differences of the exact positions


class World:
    """One scene.

    Args:
        name: of the scene; with the seed it decides everything.
        location: one of ``road.LOCATIONS``.
        attempt: another scene of the same name; see ``scene.build_world``.
    """

    def __init__(self, name: str, location: str, seed: int, attempt: int = 0) -> None:
        random = generator(seed, "world", name, attempt)
        self.name, self.location = name, location
        self.road = Road(location, seed)
        self._ego_arc = random.uniform(0, self.road.length)
        self._ego = traffic.ego_motion(random)
        self._sway = random.uniform(0, 2 * np.pi, 2)
        self.things = traffic.populate(self.road, self._ego_arc, self._ego, random)
        self._arc = np.array([thing.arc for thing in self.things])
        self._offset = np.array([thing.offset for thing in self.things])
        self._turn = np.array([thing.turn for thing in self.things])
        self._motions = list(dict.fromkeys(thing.motion for thing in self.things))
        self._motion = np.array([self._motions.index(thing.motion) for thing in self.things])
        self._size = np.array([thing.size for thing in self.things])

    def boxes(self, t: float) -> Boxes:
        """Every thing at ``t`` seconds, in the order of ``things``."""
        travelled = np.array([motion.travelled(t) for motion in self._motions])
        flat, heading = self.road.at(self._arc + travelled[self._motion], self._offset)
        centre = np.column_stack([flat, self._size[:, 2] / 2])
        return Boxes(centre, self._size, heading + self._turn)

    def velocities(self, t: float) -> np.ndarray:
        """(n, 3) of the things' centres, m/s in the global frame."""
        return (self.boxes(t + _STEP).centre - self.boxes(t - _STEP).centre) / (2 * _STEP)

    def ego_pose(self, t: float) -> np.ndarray:
        """T_global_from_ego: the middle of the rear axle on the ground, x forward; the body sways a little."""
        arc = np.array([self._ego_arc + self._ego.travelled(t)])
        flat, heading = self.road.at(arc, traffic.EGO_OFFSET)
        pitch = 0.005 * np.sin(2.1 * t + self._sway[0])
        roll = 0.006 * np.sin(1.3 * t + self._sway[1])
        return pose(np.array([*flat[0], 0.0]), float(heading[0]), pitch, roll)

    def mount_velocity(self, t: float, mount: np.ndarray) -> np.ndarray:
        """(3,) global velocity of a sensor at ``mount`` (T_ego_from_sensor): the ego's, and its turning."""
        after, before = (self.ego_pose(t + step) @ mount for step in (_STEP, -_STEP))
        return (after[:3, 3] - before[:3, 3]) / (2 * _STEP)
