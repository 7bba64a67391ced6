"""What a camera sees: sky, ground with shadows, and the things as cuboids with painted sides."""

from __future__ import annotations

import cv2
import numpy as np

from racdino.synthetic.calibration import Mount
from racdino.synthetic.geometry import Boxes, inverse, transform
from racdino.synthetic.ground import GRASS, draw_ground, pixels_from_global
from racdino.synthetic.lidar import shrunk
from racdino.synthetic.paint import picture
from racdino.synthetic.rasteriser import Canvas, outline
from racdino.synthetic.traffic import Thing
from racdino.synthetic.world import World

_SUN = np.array([0.45, -0.55, 0.70]) / np.linalg.norm([0.45, -0.55, 0.70])
_AMBIENT, _DIFFUSE, _SHADOW = 0.6, 0.4, 0.55  # the first two make 1: no colour overflows
_HAZE, _BLUE = np.array([222, 214, 206.0]), np.array([214, 158, 104.0])
_HAZE_DISTANCE, _FARTHEST, _SHADOW_FARTHEST = 200.0, 150.0, 70.0  # metres
# Which corners of ``Boxes.corners`` a side has: upper left, upper right, lower right, lower left seen from outside
# (of the top: with the front on the right).
_CORNERS = {
    "front": (7, 4, 0, 3), "back": (5, 6, 2, 1), "left": (4, 5, 1, 0), "right": (6, 7, 3, 2), "top": (5, 4, 7, 6),
}  # fmt: skip

_NORMALS = {"front": (0, 1), "back": (0, -1), "left": (1, 1), "right": (1, -1), "top": (2, 1)}  # axis, sign


def render(world: World, t: float, mount: Mount, image_size: tuple[int, int], seed: int) -> Canvas:
    """The image of a camera at ``t`` seconds; owners are indices of ``world.things``."""
    assert mount.intrinsic is not None
    T_camera_from_global = inverse(world.ego_pose(t) @ mount.T_ego_from_sensor)
    boxes = shrunk(world.boxes(t))
    centres = transform(T_camera_from_global, boxes.centre)
    chosen = _in_view(centres, np.linalg.norm(boxes.size, axis=1) / 2, mount.intrinsic, image_size[0])
    shadows = _shadows(boxes[chosen], T_camera_from_global, mount.intrinsic, image_size)
    ground = draw_ground(world.location, seed)
    canvas = Canvas(_background(ground, T_camera_from_global, mount.intrinsic, image_size, shadows), mount.intrinsic)
    corners, turns = transform(T_camera_from_global, boxes.corners()), boxes.rotations()
    eye = inverse(T_camera_from_global)[:3, 3]
    for i in chosen[np.argsort(centres[chosen, 2])]:
        at = (eye - boxes.centre[i]) @ turns[i]  # the camera in the thing's own axes
        sides = [side for side, (axis, sign) in _NORMALS.items() if at[axis] * sign > boxes.size[i, axis] / 2]
        distance = float(np.linalg.norm(centres[i]))
        canvas.draw(int(i), [_face(world.things[i], side, corners[i], turns[i], distance, canvas) for side in sides])
    return canvas


def _in_view(centres: np.ndarray, reach: np.ndarray, intrinsic: np.ndarray, width: int) -> np.ndarray:
    """Indices of the spheres (n, 3) in the camera frame of which something may be in the image."""
    left, right = -intrinsic[0, 2] / intrinsic[0, 0], (width - intrinsic[0, 2]) / intrinsic[0, 0]
    inside = centres[:, 2] > -reach
    for slope, sign in ((left, -1), (right, 1)):
        inside &= sign * (centres[:, 0] - slope * centres[:, 2]) < reach * np.hypot(1, slope)
    return np.flatnonzero(inside & (np.linalg.norm(centres, axis=1) < _FARTHEST))


def _face(
    thing: Thing, side: str, corners: np.ndarray, turn: np.ndarray, distance: float, canvas: Canvas
) -> tuple[np.ndarray, np.ndarray]:
    """The corners of one side in the camera frame and its picture in the light of the place."""
    face = corners[list(_CORNERS[side])]
    axis, sign = _NORMALS[side]
    light = _AMBIENT + _DIFFUSE * max(0.0, sign * float(turn[:, axis] @ _SUN))
    clear = np.exp(-distance / _HAZE_DISTANCE)
    levels = picture(thing.kind.name, side, thing.paint, thing.attribute != "cycle.without_rider")
    widest = max(np.linalg.norm(face[1] - face[0]), np.linalg.norm(face[3] - face[0]))
    pixels = canvas.intrinsic[0, 0] * widest / max(distance, 1.0)
    level = int(max(0.0, min(np.log2(levels[0].shape[0] / max(pixels, 1.0)), len(levels) - 1)))
    return face, (levels[level] * (light * clear) + _HAZE * (1 - clear)).astype(np.uint8)


def _background(
    ground: np.ndarray, T_camera_from_global: np.ndarray, intrinsic: np.ndarray, image_size: tuple[int, int],
    shadows: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """(H, W, 3) uint8: the flat ground by its homography, darkened where ``shadows`` (H, W) is set, and the sky."""
    width, height = image_size
    rotation, shift = T_camera_from_global[:3, :3], T_camera_from_global[:3, 3]
    pixel_from_ground = intrinsic @ np.stack([rotation[:, 0], rotation[:, 1], shift], -1)
    pixel_from_texture = pixel_from_ground @ np.linalg.inv(pixels_from_global())
    street = cv2.warpPerspective(
        ground, pixel_from_texture, image_size, borderMode=cv2.BORDER_CONSTANT, borderValue=GRASS
    )
    # Upward part of each pixel's ray of depth 1: negative below the horizon.
    a, b, c = (rotation[:, 2] @ np.linalg.inv(intrinsic)).astype(np.float32)
    columns, rows = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    up = a * columns + (b * rows + c)[:, None]
    camera_height = -float(rotation[:, 2] @ shift)
    clear = np.exp(camera_height / np.minimum(up, -1e-4) / _HAZE_DISTANCE).astype(np.float32)
    light = clear * (1 - (1 - _SHADOW) * (shadows > 0))
    blue = np.clip(up * 2.4, 0, 1)
    sky = cv2.merge([blue * (_BLUE[i] - _HAZE[i]).astype(np.float32) + np.float32(_HAZE[i]) for i in range(3)])
    haze = (1 - clear)[..., None] * _HAZE.astype(np.float32)
    shaded = street * light[..., None].astype(np.float32) + haze
    return np.where((up < 0)[..., None], shaded, sky).astype(np.uint8)


def _shadows(
    boxes: Boxes, T_camera_from_global: np.ndarray, intrinsic: np.ndarray, image_size: tuple[int, int]
) -> np.ndarray:
    """(H, W) uint8, set where a thing shades the ground."""
    mask = np.zeros(image_size[::-1], np.uint8)
    for corners in boxes.corners():
        flat = corners[:, :2] - _SUN[:2] / _SUN[2] * corners[:, 2:]
        hull = cv2.convexHull(flat.astype(np.float32))[:, 0].astype(np.float64)
        on_ground = transform(T_camera_from_global, np.column_stack([hull, np.zeros(len(hull))]))
        if on_ground[:, 2].min() > _SHADOW_FARTHEST:
            continue
        pixels = outline(intrinsic, on_ground)
        if pixels is not None:
            cv2.fillConvexPoly(mask, np.clip(pixels, -(2**14), 2**14).round().astype(np.int32), 255)
    return mask
