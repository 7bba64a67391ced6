"""A small sample to draw: two grey cameras, front and back, two boxes, three radar points."""

from __future__ import annotations

import numpy as np
import pytest

from racdino.evaluation import CLASS_NAMES
from racdino.evaluation.detections import Found
from racdino.show.sample import Sample

WIDTH, HEIGHT = 320, 180


@pytest.fixture
def sample() -> Sample:
    intrinsic = np.array([[250.0, 0, WIDTH / 2], [0, 250, HEIGHT / 2], [0, 0, 1]])
    lidar2img = np.tile(np.eye(4), (2, 1, 1))
    lidar2img[0, :3, :3] = intrinsic @ np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # looks along y
    lidar2img[1, :3, :3] = intrinsic @ np.array([[-1.0, 0, 0], [0, 0, -1], [0, -1, 0]])
    boxes = np.array([[0, 15.0, -1, 4, 2, 1.5, np.pi / 2, 0, 5], [2, -8, -1, 0.8, 0.7, 1.8, 0, 0, 0]])
    truth = Found(boxes, np.ones(2), np.array([0, 7]))
    found = Found(boxes[:1] + 0.1, np.array([0.83]), np.array([0]))
    radar = np.array([[0, 14, 0, 10, 0, 5, 0], [2, -8, 0, 3, 0, 0, 0.2], [500, 0, 0, 0, 0, 0, 0.1]])
    grey = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    cameras = ["CAM_FRONT", "CAM_BACK"]
    return Sample("abc", CLASS_NAMES, cameras, [grey, grey], lidar2img, radar, truth, found)
