"""Scenes in several processes. What a scene becomes depends on its name alone, so the number changes nothing."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from racdino.synthetic.parameters import Parameters
from racdino.synthetic.road import LOCATIONS
from racdino.synthetic.scene import render_scene

_PR_SET_PDEATHSIG = 1
_Records = dict[str, list[dict[str, Any]]]


def render_scenes(parameters: Parameters, names: list[str], root: Path, workers: int) -> list[_Records]:
    """The records of every scene in the order of ``names``; their files are written under ``root``."""
    # Location by location: drawing a location's ground takes as long as rendering several samples on it.
    order = sorted(range(len(names)), key=lambda index: index % len(LOCATIONS))
    done: dict[int, _Records] = {}
    with tqdm(total=len(names), unit="scene", desc="rendering", disable=None) as bar:
        if workers == 1:
            for index in order:
                done[index] = render_scene(parameters, index, names[index], root)
                bar.update()
        else:
            context = multiprocessing.get_context("spawn")  # the caller may have threads, which fork does not copy
            executor = ProcessPoolExecutor(workers, context, _begin_worker, (os.getpid(),))
            try:
                futures = {
                    executor.submit(render_scene, parameters, index, names[index], root): index for index in order
                }
                for future in as_completed(futures):
                    done[futures[future]] = future.result()
                    bar.update()
            finally:
                executor.shutdown(cancel_futures=True)
    return [done[index] for index in range(len(names))]


def _begin_worker(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # no worker outlives a killed command
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command
    cv2.setNumThreads(1)
