"""Sky, hills and street, one colour per ray; shadows of the shapes on the ground."""

from __future__ import annotations

import cv2
import numpy as np

from racdino.verify.render.camera import CAMERA_HEIGHT, Camera
from racdino.verify.render.scene import CROSSING, LANE, PAVEMENT, ROAD, STRIPES, Shape

SUN = np.array([0.45, -0.62, 0.64]) / np.linalg.norm([0.45, -0.62, 0.64])
HAZE = np.array([206, 214, 222.0])
HAZE_DISTANCE = 190.0
SHADOW = 0.52
_NOISE = np.random.RandomState(7).rand(256, 256).astype(np.float32)


def draw_background(camera: Camera, shapes: list[Shape]) -> np.ndarray:
    """(height, width, 3) float RGB, 0 to 255."""
    rays = camera.rays()
    down = np.minimum(rays[..., 2], -1e-4)
    distance = np.minimum(-CAMERA_HEIGHT / down, 4000)
    x, y = (camera.position[i] + rays[..., i] * distance for i in (0, 1))
    street = _street(x, y, distance) * (1 - (1 - SHADOW) * _shadows(camera, shapes)[..., None])
    street = haze(street, distance[..., None])
    return np.where((rays[..., 2] < 0)[..., None], street, _sky(rays))


def haze(colour: np.ndarray, distance: np.ndarray | float) -> np.ndarray:
    """Fade to the horizon's colour."""
    clear = np.exp(-distance / HAZE_DISTANCE)
    return colour * clear + HAZE * (1 - clear)


def noise(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Smooth noise in [0, 1] with a period of 256 in both directions."""
    u, v = (np.mod(c, 256).astype(np.float32) for c in (x, y))
    return cv2.remap(_NOISE, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def _street(x: np.ndarray, y: np.ndarray, distance: np.ndarray) -> np.ndarray:
    fine = np.clip(30 / distance, 0, 1) * (noise(x * 9, y * 9) - 0.5) + (noise(x * 0.7, y * 0.7) - 0.5)
    asphalt = np.array([98, 99, 103.0]) + 15 * fine[..., None]
    tiles = (np.mod(x, 0.9) < 0.045) | (np.mod(y, 0.9) < 0.045)
    pavement = np.array([166, 161, 153.0]) + 13 * fine[..., None] - 18.0 * (tiles & (distance < 40))[..., None]
    grass = np.array([112, 126, 78.0]) + 34 * fine[..., None]
    side = (x > CROSSING[0]) & (x < CROSSING[1])
    road = ((y > ROAD[0]) & (y < ROAD[1])) | side
    beside = (y > ROAD[0] - PAVEMENT) & (y < ROAD[1] + PAVEMENT)
    colour = np.where(beside[..., None], pavement, grass)
    kerb = beside & (np.minimum(abs(y - ROAD[0]), abs(y - ROAD[1])) < 0.18)
    colour = np.where(kerb[..., None], np.array([192, 190, 184.0]), colour)
    colour = np.where(road[..., None], asphalt, colour)
    return np.where((road & _paint(x, y))[..., None], np.array([198, 196, 188.0]) + 20 * fine[..., None], colour)


def _paint(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Centre line, lane dashes, edge lines and a zebra crossing."""
    along = (x < STRIPES[0] - 1.5) | (x > CROSSING[1] + 1)
    on_road = (y > ROAD[0]) & (y < ROAD[1])
    centre = abs(abs(y - LANE / 2) - 0.14) < 0.06
    dashes = (abs(y + LANE / 2) < 0.07) | (abs(y - 3 * LANE / 2) < 0.07)
    edges = (abs(y - ROAD[0] - 0.3) < 0.07) | (abs(y - ROAD[1] + 0.3) < 0.07)
    stop = (x > STRIPES[0] - 1.4) & (x < STRIPES[0] - 1.0) & (y < LANE / 2) & on_road
    zebra = (x > STRIPES[0]) & (x < STRIPES[1]) & (np.mod(y, 1.1) < 0.55) & on_road
    return (along & (centre | edges | (dashes & (np.mod(x, 7.5) < 3.0)))) | stop | zebra


def _shadows(camera: Camera, shapes: list[Shape]) -> np.ndarray:
    """(height, width) in [0, 1]: how much of the ground lies in shadow."""
    mask = np.zeros((camera.height, camera.width), np.uint8)
    for shape in shapes:
        outlines = [shape.points()]
        if shape.balls:
            outlines += [
                ball.centre + np.eye(3)[[0, 1, 0, 1]] * ball.radius * [[1], [1], [-1], [-1]] for ball in shape.balls
            ]
        for points in outlines:
            flat = points[:, :2] - SUN[:2] / SUN[2] * points[:, 2:]
            hull = cv2.convexHull(flat.astype(np.float32))[:, 0]
            corners = camera.polygon(np.column_stack([hull, np.zeros(len(hull))]))
            if corners is not None:
                cv2.fillPoly(mask, [np.clip(corners, -(2**14), 2**14).astype(np.int32)], 255)
    return cv2.GaussianBlur(mask, (0, 0), 1.6).astype(np.float64) / 255


def _sky(rays: np.ndarray) -> np.ndarray:
    up = np.maximum(rays[..., 2], 0)
    colour = HAZE + (np.array([96, 150, 212.0]) - HAZE) * np.clip(up * 2.6, 0, 1)[..., None] ** 0.8
    height = np.maximum(up, 0.03)
    x, y = rays[..., 0] / height, rays[..., 1] / height
    cloud = 0.5 * noise(x * 1.3, y * 1.3) + 0.3 * noise(x * 3.1 + 40, y * 3.1) + 0.2 * noise(x * 7, y * 7 + 90)
    cloud = np.clip((cloud - 0.5) * 3.4, 0, 1) * np.clip(up * 7 - 0.25, 0, 1)
    colour += (np.array([250, 250, 250.0]) - colour) * (0.85 * cloud)[..., None]
    azimuth = np.arctan2(rays[..., 1], rays[..., 0]) * 256 / (2 * np.pi)
    ridge = 0.035 + 0.05 * noise(azimuth * 0.25, azimuth * 0) * noise(azimuth * 0.0625 + 9, azimuth * 0 + 30)
    return np.where((up < ridge)[..., None], np.array([150, 166, 176.0]), colour)
