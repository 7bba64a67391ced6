"""Draw shapes over a background, far ones first."""

from __future__ import annotations

import cv2
import numpy as np

from racdino.verify.render.camera import NEAR, Camera
from racdino.verify.render.ground import SUN, haze
from racdino.verify.render.scene import Ball, Face, Shape

AMBIENT, DIFFUSE = 0.58, 0.52
SUBPIXEL = 4  # bits


def draw_shapes(image: np.ndarray, camera: Camera, shapes: list[Shape]) -> np.ndarray:
    """``image`` (float RGB) with the shapes in it, as uint8."""
    canvas = np.clip(image, 0, 255).astype(np.uint8)
    visible = [shape for shape in shapes if camera.to_camera(shape.points())[:, 2].max() > NEAR]
    for shape in sorted(visible, key=lambda s: -np.linalg.norm(_nearest(s, camera))):
        for face in sorted(shape.faces, key=lambda f: -np.linalg.norm(f.corners.mean(0) - camera.position)):
            _draw_face(canvas, camera, face)
        for face in shape.details:
            _draw_face(canvas, camera, face)
        for ball in shape.balls:
            _draw_ball(canvas, camera, ball)
    return canvas


def _nearest(shape: Shape, camera: Camera) -> np.ndarray:
    """From the camera to the nearest point of the shape's bounding box."""
    points = shape.points()
    return np.clip(camera.position, points.min(0), points.max(0)) - camera.position


def _draw_face(canvas: np.ndarray, camera: Camera, face: Face) -> None:
    normal = np.cross(face.corners[1] - face.corners[0], face.corners[2] - face.corners[0])
    normal = normal / max(float(np.linalg.norm(normal)), 1e-9)
    middle = face.corners.mean(0)
    if normal @ (camera.position - middle) <= 0:
        return
    corners = camera.polygon(face.corners)
    if corners is None:
        return
    light = 1.0 if face.glow else AMBIENT + DIFFUSE * max(0.0, float(normal @ SUN))
    colour = haze(face.colour * light, float(np.linalg.norm(middle - camera.position)))
    pixels = np.clip(corners, -(2**15), 2**15) * 2**SUBPIXEL
    cv2.fillPoly(canvas, [pixels.astype(np.int32)], np.clip(colour, 0, 255).tolist(), cv2.LINE_AA, SUBPIXEL)


def _draw_ball(canvas: np.ndarray, camera: Camera, ball: Ball) -> None:
    centre = camera.to_camera(ball.centre[None])
    if centre[0, 2] < NEAR + ball.radius:
        return
    at = camera.project(centre)[0] * 2**SUBPIXEL
    if np.abs(at).max() > 2**18:
        return
    radius = int(ball.radius / centre[0, 2] * camera.focal * camera.width * 2**SUBPIXEL)
    colour = np.clip(haze(ball.colour, float(centre[0, 2])), 0, 255).tolist()
    cv2.circle(canvas, tuple(int(c) for c in at), radius, colour, -1, cv2.LINE_AA, SUBPIXEL)
