"""The car's sensors: six cameras, five radars and a LiDAR, mounted about as on nuScenes' cars.

Frames: ego x forward, y left, z up about the rear axle on the ground; camera x right, y down, z forward; radar x
forward, y left; LiDAR x right, y forward, z up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from racdino.synthetic.geometry import pose
from racdino.synthetic.seeding import generator

FULL_SIZE = (1600, 900)  # pixels; what the focal lengths below belong to
LIDAR = "LIDAR_TOP"
# Ego position and yaw in degrees; of cameras also the focal length in pixels of the full size.
_CAMERAS = {
    "CAM_FRONT": ((1.70, 0.02, 1.51), 0, 1266),
    "CAM_FRONT_RIGHT": ((1.55, -0.49, 1.50), -55, 1260),
    "CAM_FRONT_LEFT": ((1.52, 0.49, 1.51), 55, 1272),
    "CAM_BACK": ((0.03, 0.00, 1.58), 180, 809),
    "CAM_BACK_LEFT": ((1.04, 0.48, 1.59), 110, 1257),
    "CAM_BACK_RIGHT": ((1.01, -0.48, 1.56), -110, 1260),
}
_RADARS = {
    "RADAR_FRONT": ((3.41, 0.00, 0.50), 0),
    "RADAR_FRONT_LEFT": ((2.42, 0.80, 0.78), 90),
    "RADAR_FRONT_RIGHT": ((2.42, -0.80, 0.77), -90),
    "RADAR_BACK_LEFT": ((-0.56, 0.62, 0.53), 175),
    "RADAR_BACK_RIGHT": ((-0.56, -0.62, 0.53), -175),
}
_LIDAR_POSITION = (0.94, 0.00, 1.84)
CAMERAS, RADARS = tuple(_CAMERAS), tuple(_RADARS)
CHANNELS = (*CAMERAS, LIDAR, *RADARS)

_EGO_FROM_CAMERA = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # of a camera that looks forward
_EGO_FROM_LIDAR = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])


@dataclass(frozen=True)
class Mount:
    """One sensor of one car.

    Attributes:
        T_ego_from_sensor: (4, 4).
        intrinsic: (3, 3) for the images' size; None for radars and the LiDAR.
    """

    channel: str
    T_ego_from_sensor: np.ndarray
    intrinsic: np.ndarray | None = None

    @property
    def modality(self) -> str:
        return {"CAM": "camera", "RADAR": "radar", "LIDAR": "lidar"}[self.channel.split("_")[0]]


def calibrate(seed: int, car: str, image_size: tuple[int, int]) -> dict[str, Mount]:
    """The mounts of ``car`` by channel: no two cars are built quite alike. ``image_size`` is width, height."""
    mounts = {}
    for channel in CHANNELS:
        random = generator(seed, "mount", car, channel)
        if channel in _CAMERAS:
            position, yaw, focal = _CAMERAS[channel]
            frame, intrinsic = _EGO_FROM_CAMERA, _intrinsic(focal, image_size, random)
        elif channel == LIDAR:
            position, yaw, frame, intrinsic = _LIDAR_POSITION, 0, _EGO_FROM_LIDAR, None
        else:
            (position, yaw), frame, intrinsic = _RADARS[channel], np.eye(3), None
        # Radars are levelled to less than cameras: their points are taken to lie in one plane.
        tilt = np.radians(0.1 if channel in _RADARS else 0.4)
        turned = pose(
            np.add(position, random.uniform(-0.02, 0.02, 3)),
            np.radians(yaw) + random.uniform(-1, 1) * np.radians(0.5),
            *(tilt * random.uniform(-1, 1, 2)),
        )
        turned[:3, :3] = turned[:3, :3] @ frame
        mounts[channel] = Mount(channel, turned, intrinsic)
    return mounts


def _intrinsic(focal: float, image_size: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    width, height = image_size
    scaled = focal * random.uniform(0.997, 1.003) * width / FULL_SIZE[0]
    middle = width * (0.5 + random.uniform(-0.01, 0.01)), height * (0.54 + random.uniform(-0.01, 0.01))
    return np.array([[scaled, 0, middle[0]], [0, scaled, middle[1]], [0, 0, 1]])
