"""When each sensor measures: key frames at 2 Hz, radars at 13 Hz between them, cameras and LiDAR as asked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from racdino.synthetic.calibration import LIDAR, RADARS

KEY_INTERVAL = 500_000  # microseconds
RADAR_INTERVAL = 76_923
# A camera is triggered when the LiDAR, which turns clockwise once in 50 ms up to a key frame's time, looks its way.
_TRIGGER = {
    "CAM_BACK_LEFT": 41_000, "CAM_FRONT_LEFT": 33_000, "CAM_FRONT": 25_000,
    "CAM_FRONT_RIGHT": 17_000, "CAM_BACK_RIGHT": 9_000, "CAM_BACK": 2_000,
}  # fmt: skip


@dataclass(frozen=True)
class Shot:
    """One measurement: microseconds after the scene's start, the sample it belongs to, whether it is its key frame."""

    time: int
    sample: int
    is_key: bool


def shots(channel: str, samples: int, sweeps: int, random: np.random.Generator) -> list[Shot]:
    """Of one sensor through a scene, from its first key frame to its last; sweeps belong to the next key frame.

    Args:
        sweeps: between two key frames, of cameras and the LiDAR.
    """
    if channel in RADARS:
        return _radar_shots(samples, int(random.integers(RADAR_INTERVAL)))
    delay = 0 if channel == LIDAR else _TRIGGER[channel]
    result = []
    for sample in range(samples):
        for back in range(sweeps if sample else 0, -1, -1):
            time = sample * KEY_INTERVAL - back * KEY_INTERVAL // (sweeps + 1) - delay
            result.append(Shot(time, sample, back == 0))
    return result


def _radar_shots(samples: int, phase: int) -> list[Shot]:
    """Radars run free: a key frame is the sweep nearest to the sample's time."""
    nearest = [round((sample * KEY_INTERVAL - phase) / RADAR_INTERVAL) for sample in range(samples)]
    result = [Shot(nearest[0] * RADAR_INTERVAL + phase, 0, True)]
    for sample in range(1, samples):
        for step in range(nearest[sample - 1] + 1, nearest[sample] + 1):
            result.append(Shot(step * RADAR_INTERVAL + phase, sample, step == nearest[sample]))
    return result
