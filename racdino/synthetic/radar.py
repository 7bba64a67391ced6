"""Automotive radars: reflections with Doppler velocity and cross-section, misses, ghosts and clutter.

A radar measures the radial velocity alone. As in nuScenes' files, vx and vy are that velocity as a vector along the
line of sight, and vx_comp, vy_comp the same without the sensor's own motion. Points lie in the radar's plane, z = 0.
"""

from __future__ import annotations

import numpy as np

from racdino.synthetic.geometry import Boxes, enter, inverse, transform
from racdino.synthetic.lidar import shrunk
from racdino.synthetic.world import World

POINT = np.dtype(
    [
        ("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("dyn_prop", "i1"), ("id", "<i2"), ("rcs", "<f4"),
        ("vx", "<f4"), ("vy", "<f4"), ("vx_comp", "<f4"), ("vy_comp", "<f4"),
        ("is_quality_valid", "i1"), ("ambig_state", "i1"), ("x_rms", "i1"), ("y_rms", "i1"),
        ("invalid_state", "i1"), ("pdh0", "i1"), ("vx_rms", "i1"), ("vy_rms", "i1"),
    ]
)  # fmt: skip
LARGEST_RANGE = 100.0  # metres
HALF_VIEW = np.radians(60)
NARROW_VIEW, NARROW_FROM = np.radians(12), 70.0  # beyond this range the radar looks ahead only
RANGE_NOISE, AZIMUTH_NOISE, VELOCITY_NOISE = 0.1, np.radians(0.3), 0.06
AMBIGUOUS_SPEED = 24.0  # m/s between two readings of one Doppler shift
CLUTTER = 14  # mean number of points that belong to nothing
MOST = 125  # points of one sweep
_MISSED, _THROUGH = 0.08, 0.2  # whole things not seen; reflections that pass under or round what stands before


def measure(world: World, t: float, mount: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """One sweep at ``t`` seconds of the radar at ``mount`` (T_ego_from_radar): (n,) of ``POINT``, unfiltered."""
    T_global_from_radar = world.ego_pose(t) @ mount
    own = (world.mount_velocity(t, mount) @ T_global_from_radar[:3, :3])[:2]
    flat, velocity, rcs = _reflections(world, t, T_global_from_radar, random)
    clutter, clutter_velocity, clutter_rcs = _clutter(random)
    ghost = np.concatenate([np.zeros(len(flat), bool), np.linalg.norm(clutter_velocity, axis=1) > 0])
    flat = np.concatenate([flat, clutter])
    velocity, rcs = np.concatenate([velocity, clutter_velocity]), np.concatenate([rcs, clutter_rcs])

    distance = np.linalg.norm(flat, axis=1) + random.normal(0, RANGE_NOISE, len(flat))
    azimuth = np.arctan2(flat[:, 1], flat[:, 0]) + random.normal(0, AZIMUTH_NOISE, len(flat))
    view = np.where(distance > NARROW_FROM, NARROW_VIEW, HALF_VIEW)
    seen = np.flatnonzero((distance > 0.5) & (distance < LARGEST_RANGE) & (np.abs(azimuth) < view))
    seen = seen[np.argsort(distance[seen], kind="stable")][:MOST]
    sight = np.stack([np.cos(azimuth), np.sin(azimuth)], -1)[seen]
    speed = (velocity[seen] * sight).sum(axis=1) + random.normal(0, VELOCITY_NOISE, len(seen))
    return _record(distance[seen, None] * sight, sight, speed, own, rcs[seen], ghost[seen], random)


def _reflections(
    world: World, t: float, T_global_from_radar: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the things send back: (m, 2) places and (m, 2) velocities in the radar's axes, (m,) dBsm."""
    surfaces = shrunk(world.boxes(t))
    T_radar_from_global = inverse(T_global_from_radar)
    centres = transform(T_radar_from_global, surfaces.centre)
    reach = np.linalg.norm(centres[:, :2], axis=1)
    in_view = np.abs(np.arctan2(centres[:, 1], centres[:, 0])) < HALF_VIEW + 0.2
    mean = np.array([thing.kind.reflections for thing in world.things]) * np.clip(25 / np.maximum(reach, 1), 0.25, 1)
    count = random.poisson(mean) * (random.random(len(mean)) > _MISSED) * in_view * (reach < LARGEST_RANGE)
    owner = np.repeat(np.arange(len(surfaces)), count)
    sensor = T_global_from_radar[:3, 3]
    flat = _facing_points(surfaces, owner, sensor, random)
    points = np.column_stack([flat, np.full(len(flat), sensor[2])])
    clear = _in_sight(surfaces, owner, points, sensor) | (random.random(len(owner)) < _THROUGH)
    points = transform(T_radar_from_global, points)
    velocity = (world.velocities(t) @ T_global_from_radar[:3, :3])[owner]
    rcs = np.array([thing.kind.rcs for thing in world.things])[owner] + random.normal(0, 3.5, len(owner))
    return points[clear, :2], velocity[clear, :2], rcs[clear]


def _facing_points(boxes: Boxes, owner: np.ndarray, sensor: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(m, 2) global: for each of ``owner`` a point just inside one of the two sides that face the sensor."""
    turns = boxes.rotations()[owner][:, :2, :2]
    half = boxes.size[owner, :2] / 2
    local_sensor = np.einsum("mji,mj->mi", turns, sensor[:2] - boxes.centre[owner, :2])
    beyond = np.maximum(np.abs(local_sensor) - half, 0)  # how squarely each pair of sides faces it
    shown = beyond * half[:, ::-1]
    first = random.random(len(owner)) * np.maximum(shown.sum(axis=1), 1e-9) < shown[:, 0]
    place = random.uniform(-0.9, 0.9, (len(owner), 2)) * half
    depth = random.uniform(0.1, 0.4, len(owner)) * np.minimum(half.min(axis=1), 1.0)
    edge = np.sign(local_sensor) * (half - depth[:, None])
    local = np.where(np.stack([first, ~first], -1), edge, place)
    return np.einsum("mij,mj->mi", turns, local) + boxes.centre[owner, :2]


def _in_sight(boxes: Boxes, owner: np.ndarray, points: np.ndarray, sensor: np.ndarray) -> np.ndarray:
    """(m,): whether nothing but the thing itself lies between ``sensor`` (3,) and each of ``points`` (m, 3)."""
    near = np.flatnonzero(np.linalg.norm(boxes.centre[:, :2] - sensor[:2], axis=1) < LARGEST_RANGE)
    turns = boxes.rotations()[near]
    origins = np.einsum("bji,bj->bi", turns, sensor - boxes.centre[near])[:, None]
    rays = (points - sensor) @ turns
    entered = enter(origins, rays, boxes.size[near, None])  # (boxes, points); 1 is the point itself
    return ~((entered < 1) & (owner != near[:, None])).any(axis=0)


def _clutter(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points that belong to nothing: most at rest; ghosts move as nothing does there."""
    count = random.poisson(CLUTTER)
    distance, azimuth = random.uniform(2, LARGEST_RANGE, count), random.uniform(-HALF_VIEW, HALF_VIEW, count)
    flat = distance[:, None] * np.stack([np.cos(azimuth), np.sin(azimuth)], -1)
    ghosts = random.random(count) < 0.15
    return flat, random.normal(0, 6, (count, 2)) * ghosts[:, None], random.normal(-6, 5, count)


def _record(
    flat: np.ndarray, sight: np.ndarray, speed: np.ndarray, own: np.ndarray, rcs: np.ndarray, ghost: np.ndarray,
    random: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """The file's columns for points at ``flat`` (n, 2) with radial ``speed`` (n,) over ground."""
    n = len(flat)
    points = np.zeros(n, POINT)
    ambiguous = random.random(n) < 0.08
    speed = speed + ambiguous * AMBIGUOUS_SPEED * random.choice([-1, 1], n)
    relative = speed - sight @ own
    points["x"], points["y"] = flat.T
    points["vx_comp"], points["vy_comp"] = (speed[:, None] * sight).T
    points["vx"], points["vy"] = (relative[:, None] * sight).T
    points["id"] = np.arange(n)
    points["rcs"] = np.clip(np.round(rcs * 2) / 2, -64, 63.5)
    still = np.where(random.random(n) < 0.8, 1, 3)  # stationary, or a candidate
    points["dyn_prop"] = np.where(np.abs(speed) < 0.4, still, np.where(speed < 0, 2, 0))  # oncoming, moving
    points["is_quality_valid"] = 1
    points["ambig_state"] = np.where(ambiguous, random.choice([1, 2, 4], n), 3)
    invalid = random.random(n) < np.where(ghost, 0.7, 0.06)
    points["invalid_state"] = np.where(invalid, random.choice([1, 2, 4, 9, 16, 17], n), 0)
    points["pdh0"] = np.where(ghost, 4, 1)
    for name, low, high in (("x_rms", 17, 21), ("y_rms", 17, 23), ("vx_rms", 3, 17), ("vy_rms", 3, 17)):
        points[name] = random.integers(low, high, n)
    return points
