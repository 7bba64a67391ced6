"""The past of a key frame: which moments there are, and which of them make a sample's frames.

nuScenes' cameras run at about 12 Hz and its key frames at 2 Hz. An info file lists the moments between a key frame and
the one before it as its ``sweeps``, newest first, so six steps lead from key frame to key frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from racdino.data.tables import CAMERAS

STEPS_PER_KEY_FRAME = 6
TRAINING_INTERVAL = (4, 8)  # steps between two frames of a sample; drawn, both ends included
TEST_INTERVAL = STEPS_PER_KEY_FRAME  # so that a test's frames are key frames
LONGEST_HISTORY = 60  # steps

Infos = Mapping[str, dict[str, Any]]  # by sample token


class Moment(NamedTuple):
    """One step of the past.

    sensors: channel to its record: cameras as in an info's ``cams``, radars raw ``sample_data`` or None.
    info: the key frame in whose ``radar_history`` the moment lies.
    """

    sensors: Mapping[str, Any]
    info: dict[str, Any]


def key_moment(info: dict[str, Any]) -> Moment:
    """The key frame itself as a moment."""
    return Moment({**info["cams"], **info["rads"]}, info)


def past_moments(info: dict[str, Any], infos: Infos) -> list[Moment]:
    """The steps before ``info``, newest first: its sweeps, the key frame before it, that one's sweeps, and so on.

    Sweeps that are not on the disk are stood in for by the key frame before them, so that every sixth step is a key
    frame whatever part of the data set was downloaded. Empty for the first key frame of a scene.
    """
    moments: list[Moment] = []
    while len(moments) < LONGEST_HISTORY:
        between = [Moment(sweep, info) for sweep in info["sweeps"] if all(sweep.get(camera) for camera in CAMERAS)]
        previous = infos.get(info["prev"])
        if previous is None:
            return moments + between
        steps = between[: STEPS_PER_KEY_FRAME - 1]
        moments += steps + [key_moment(previous)] * (STEPS_PER_KEY_FRAME - len(steps))
        info = previous
    return moments


def draw_interval(
    available: int, count: int, random: np.random.Generator, limits: tuple[int, int] = TRAINING_INTERVAL
) -> int:
    """Steps between two frames, uniform in ``limits`` as far as ``available`` steps last for ``count`` frames."""
    low, high = limits
    if available < count:
        return low
    high = min(high, available // count)
    return int(random.integers(min(low, high), high + 1))


def choose_steps(available: int, count: int, interval: int) -> list[int]:
    """Indices into the past moments: every ``interval``-th of them; the oldest again where they do not last."""
    return [min((k + 1) * interval, available) - 1 for k in range(count)] if available else []


def radar_sweeps(info: dict[str, Any], latest: int | None, infos: Infos, channel: str) -> Iterator[tuple[dict, int]]:
    """A radar's sweeps from ``latest`` (microseconds, None: the key frame ``info``'s own) backwards, newest first.

    Yields:
        (history, k): row k of one ``radar_history[channel]``. Ends where the recording or the info file does.
    """
    key_frame: dict[str, Any] | None = info
    while key_frame is not None:
        history = key_frame["radar_history"].get(channel)
        for k, timestamp in enumerate(history["timestamp"] if history else ()):
            if latest is None or timestamp <= latest:
                yield history, k
        key_frame = infos.get(key_frame["prev"])
