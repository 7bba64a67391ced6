"""The thirteen tables of a data set: those of its scenes together, and those that every data set shares."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2

from racdino.synthetic.calibration import CHANNELS
from racdino.synthetic.ground import draw_map
from racdino.synthetic.kinds import KINDS
from racdino.synthetic.parameters import Parameters
from racdino.synthetic.road import LOCATIONS, Road
from racdino.synthetic.seeding import token

_CATEGORIES = (
    "human.pedestrian.adult", "human.pedestrian.child", "human.pedestrian.wheelchair", "human.pedestrian.stroller",
    "human.pedestrian.personal_mobility", "human.pedestrian.police_officer", "human.pedestrian.construction_worker",
    "animal", "vehicle.car", "vehicle.motorcycle", "vehicle.bicycle", "vehicle.bus.bendy", "vehicle.bus.rigid",
    "vehicle.truck", "vehicle.construction", "vehicle.emergency.ambulance", "vehicle.emergency.police",
    "vehicle.trailer", "movable_object.barrier", "movable_object.trafficcone", "movable_object.pushable_pullable",
    "movable_object.debris", "static_object.bicycle_rack",
)  # fmt: skip
_ATTRIBUTES = (
    "vehicle.moving", "vehicle.stopped", "vehicle.parked", "cycle.with_rider", "cycle.without_rider",
    "pedestrian.sitting_lying_down", "pedestrian.standing", "pedestrian.moving",
)  # fmt: skip
_VISIBILITY = {"1": "v0-40", "2": "v40-60", "3": "v60-80", "4": "v80-100"}
_PER_SCENE = (
    "log", "scene", "sample", "calibrated_sensor", "sample_data", "ego_pose", "instance", "sample_annotation",
)  # fmt: skip


def write_tables(
    root: Path, parameters: Parameters, scenes: Iterable[dict[str, list[dict[str, Any]]]]
) -> dict[str, int]:
    """Write ``root/<version>/*.json`` and the map images; how many records each table has."""
    seed = parameters.seed
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in _PER_SCENE}
    for scene in scenes:
        for name in _PER_SCENE:
            tables[name] += scene[name]
    rendered = {kind.category for kind in KINDS.values()}
    tables["category"] = [
        {
            "token": token(seed, "category", name),
            "name": name,
            "description": "Rendered by racdino." if name in rendered else "Not rendered.",
        }
        for name in _CATEGORIES
    ]
    tables["attribute"] = [
        {"token": token(seed, "attribute", name), "name": name, "description": f"As nuScenes' {name}."}
        for name in _ATTRIBUTES
    ]
    tables["visibility"] = [
        {"token": name, "level": level, "description": f"visible part of the outline in percent: {level[1:]}"}
        for name, level in _VISIBILITY.items()
    ]
    tables["sensor"] = [
        {"token": token(seed, "sensor", channel), "channel": channel, "modality": _modality(channel)}
        for channel in CHANNELS
    ]
    tables["map"] = [_map(root, location, seed, tables["log"]) for location in LOCATIONS]
    folder = root / parameters.version
    folder.mkdir()
    for name, rows in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(rows, indent=0) + "\n")
    return {name: len(rows) for name, rows in tables.items()}


def _modality(channel: str) -> str:
    return {"CAM": "camera", "RADAR": "radar", "LIDAR": "lidar"}[channel.split("_")[0]]


def _map(root: Path, location: str, seed: int, logs: list[dict[str, Any]]) -> dict[str, Any]:
    name = token(seed, "map", location)
    filename = f"maps/{name}.png"
    (root / "maps").mkdir(exist_ok=True)
    done, encoded = cv2.imencode(".png", draw_map(Road(location, seed)))
    if not done:
        raise RuntimeError(f"OpenCV cannot encode {filename} as PNG")
    (root / filename).write_bytes(encoded.tobytes())
    return {
        "token": name,
        "category": "semantic_prior",
        "filename": filename,
        "log_tokens": [log["token"] for log in logs if log["location"] == location],
    }
