"""A spinning LiDAR of 32 beams: rays against cuboids and ground."""

from __future__ import annotations

import numpy as np

from racdino.synthetic.geometry import Boxes, enter, inverse, transform
from racdino.synthetic.world import World

BEAMS = np.radians(-30.67 + 1.3333 * np.arange(32))  # elevation; the ring index counts upwards
COLUMNS = 720  # per turn
RANGE = (1.0, 80.0)  # metres
NOISE = 0.012  # metres along the ray
MISSES = 0.03
_GROUND_INTENSITY = 12.0


def scan(world: World, t: float, mount: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """One turn at ``t`` seconds, frozen in time.

    Args:
        mount: T_ego_from_lidar.
    Returns:
        (n, 5) float32: x, y, z in the LiDAR frame, intensity 0 to 255, ring index.
    """
    T_global_from_lidar = world.ego_pose(t) @ mount
    boxes = shrunk(world.boxes(t))
    directions = _directions()
    distance = _ground_distance(T_global_from_lidar, directions)
    hit = np.full(distance.shape, -1)
    _cast(inverse(T_global_from_lidar), boxes, directions, distance, hit)

    strength = np.array([*(thing.kind.intensity for thing in world.things), _GROUND_INTENSITY])[hit]
    distance = distance + random.normal(0, NOISE, distance.shape)
    intensity = np.clip(strength * random.uniform(0.6, 1.4, distance.shape), 0, 255).round()
    seen = (distance > RANGE[0]) & (distance < RANGE[1]) & (random.random(distance.shape) > MISSES)
    ring = np.broadcast_to(np.arange(len(BEAMS))[:, None], distance.shape)
    points = np.concatenate([directions * distance[..., None], intensity[..., None], ring[..., None]], -1)
    return np.ascontiguousarray(points.swapaxes(0, 1)[seen.T], np.float32)


def shrunk(boxes: Boxes) -> Boxes:
    """The surfaces that sensors see lie a little inside the annotated boxes, as a person draws them, on the ground."""
    margin = np.minimum(0.04, 0.06 * boxes.size)
    size = boxes.size - 2 * margin
    size[:, 2] += margin[:, 2]
    return Boxes(np.column_stack([boxes.centre[:, :2], size[:, 2] / 2]), size, boxes.yaw)


def _directions() -> np.ndarray:
    """(beams, columns, 3) unit vectors in the LiDAR frame; columns go round counter-clockwise from -pi."""
    azimuth = -np.pi + (np.arange(COLUMNS) + 0.5) * 2 * np.pi / COLUMNS
    level = np.cos(BEAMS)[:, None]
    up = np.broadcast_to(np.sin(BEAMS)[:, None], (len(BEAMS), COLUMNS))
    return np.stack([level * np.cos(azimuth), level * np.sin(azimuth), up], -1)


def _ground_distance(T_global_from_lidar: np.ndarray, directions: np.ndarray) -> np.ndarray:
    down = directions @ T_global_from_lidar[2, :3]
    return np.where(down < -1e-6, -T_global_from_lidar[2, 3] / np.minimum(down, -1e-6), np.inf)


def _cast(
    T_lidar_from_global: np.ndarray, boxes: Boxes, directions: np.ndarray, distance: np.ndarray, hit: np.ndarray
) -> None:
    """Shorten ``distance`` and set ``hit`` (beams, columns) where a ray enters a box before."""
    corners = transform(T_lidar_from_global, boxes.corners())
    near = np.flatnonzero(np.linalg.norm(corners[..., :2], axis=-1).min(axis=1) < RANGE[1])
    turns = T_lidar_from_global[:3, :3] @ boxes.rotations()
    centres = transform(T_lidar_from_global, boxes.centre)
    for i in near:
        columns = _columns(corners[i])
        chosen = directions[:, columns]
        reached = enter(-centres[i] @ turns[i], chosen @ turns[i], boxes.size[i])
        closer = reached < distance[:, columns]
        distance[:, columns] = np.where(closer, reached, distance[:, columns])
        hit[:, columns] = np.where(closer, i, hit[:, columns])


def _columns(corners: np.ndarray) -> np.ndarray:
    """Indices of the columns whose azimuth lies between those of a cuboid's corners (8, 3)."""
    middle = corners.mean(axis=0)
    azimuth = np.arctan2(middle[1], middle[0])
    apart = np.arctan2(corners[:, 1], corners[:, 0]) - azimuth
    apart = (apart + np.pi) % (2 * np.pi) - np.pi
    step = 2 * np.pi / COLUMNS
    first, last = ((azimuth + edge + np.pi) / step for edge in (apart.min(), apart.max()))
    return np.arange(int(np.floor(first)) - 1, int(np.ceil(last)) + 1) % COLUMNS
