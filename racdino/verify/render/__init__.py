"""A street scene seen by six cameras, drawn by the project: what ``verify`` looks at when no frame is given.

Frames: x forward, y left, z up, metres, the ego car's centre on the ground at the origin.
"""

from __future__ import annotations

import numpy as np

from racdino.verify.frame import CAMERAS, Frame
from racdino.verify.render.camera import Camera
from racdino.verify.render.draw import draw_shapes
from racdino.verify.render.ground import draw_background
from racdino.verify.render.scene import build_scene

SEED = 20240
SIZE = (1408, 792)  # twice what the model sees before the crop: halving it smooths the edges
YAW = {"FRONT": 0, "FRONT_LEFT": 55, "FRONT_RIGHT": -55, "BACK": 180, "BACK_LEFT": 110, "BACK_RIGHT": -110}
FOCAL = {"BACK": 0.506}  # in image widths; the rear camera of nuScenes is the wide one
DEFAULT_FOCAL = 0.791


def render_frame(seed: int = SEED) -> Frame:
    """The same six images for the same seed, on every machine."""
    scene = build_scene(np.random.RandomState(seed))
    images = []
    for name in CAMERAS:
        camera = Camera(YAW[name], FOCAL.get(name, DEFAULT_FOCAL), *SIZE)
        image = draw_background(camera, scene)
        images.append(draw_shapes(image, camera, scene))
    return Frame(f"rendered by racdino (seed {seed})", tuple(images), synthetic=True)
