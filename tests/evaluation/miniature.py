"""nuScenes tables in miniature, and infos read from them through the devkit alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from nuscenes import NuScenes
from pyquaternion import Quaternion

Tables = dict[str, list[dict[str, Any]]]

CATEGORIES = {
    "car": "vehicle.car",
    "truck": "vehicle.truck",
    "trailer": "vehicle.trailer",
    "bus": "vehicle.bus.rigid",
    "construction_vehicle": "vehicle.construction",
    "bicycle": "vehicle.bicycle",
    "motorcycle": "vehicle.motorcycle",
    "pedestrian": "human.pedestrian.adult",
    "traffic_cone": "movable_object.trafficcone",
    "barrier": "movable_object.barrier",
}
ATTRIBUTES = ["vehicle.moving", "vehicle.parked", "cycle.with_rider", "pedestrian.moving", ""]


def attribute_of(name: str) -> str:
    """Of a moving object."""
    prefix = {"pedestrian": "pedestrian.moving", "bicycle": "cycle.with_rider", "motorcycle": "cycle.with_rider"}
    return "" if name in ("traffic_cone", "barrier") else prefix.get(name, "vehicle.moving")


def write_tables(root: Path, scenes: tuple[str, ...] = ("scene-0103", "scene-0916"), samples: int = 3) -> Path:
    """v1.0-mini under ``root``: in each sample of each scene two moving objects of all ten classes."""
    random = np.random.default_rng(4)
    tables: Tables = {
        name: []
        for name in "visibility instance ego_pose scene sample sample_data sample_annotation".split()  # noqa: SIM905
    }
    tables["category"] = [{"token": c, "name": c, "description": ""} for c in CATEGORIES.values()]
    tables["attribute"] = [{"token": a, "name": a, "description": ""} for a in ATTRIBUTES if a]
    tables["sensor"] = [{"token": "lidar", "channel": "LIDAR_TOP", "modality": "lidar"}]
    tables["calibrated_sensor"] = [
        {
            "token": "calibration",
            "sensor_token": "lidar",
            "translation": [0.94, 0.1, 1.84],
            "rotation": _tilted(random, -np.pi / 2),
            "camera_intrinsic": [],
        }
    ]
    tables["log"] = [{"token": "log", "logfile": "n", "vehicle": "n", "date_captured": "", "location": "here"}]
    tables["map"] = [{"token": "map", "log_tokens": ["log"], "category": "semantic_prior", "filename": "maps/m.png"}]
    for scene in scenes:
        _write_scene(tables, scene, samples, random)
    (root / "maps").mkdir(parents=True)
    (root / "maps/m.png").touch()
    folder = root / "v1.0-mini"
    folder.mkdir()
    for name, rows in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(rows))
    return root


def _write_scene(tables: Tables, scene: str, samples: int, random: np.random.Generator) -> None:
    tokens = [f"{scene}-{i}" for i in range(samples)]
    ends = {"first_sample_token": tokens[0], "last_sample_token": tokens[-1]}
    tables["scene"].append(
        {"token": scene, "log_token": "log", "nbr_samples": samples, "name": scene, "description": "", **ends}
    )
    objects = []
    for number, name in enumerate([*CATEGORIES] * 2):
        at = random.uniform(-18, 18, 2)
        objects.append((f"{scene}-object{number}", name, at, random.normal(size=2) * 3, random.uniform(0.5, 4, 3)))
    for i, token in enumerate(tokens):
        stamp = {"timestamp": 1_500_000_000_000_000 + i * 500_000}
        chain = {"prev": tokens[i - 1] if i else "", "next": tokens[i + 1] if i + 1 < samples else ""}
        ego = np.array([600.0 + 2 * i, 1200.0 + i, 0.0])
        tables["sample"].append({"token": token, "scene_token": scene, **stamp, **chain})
        tables["ego_pose"].append(
            {"token": token, "translation": ego.tolist(), "rotation": _tilted(random, 0.7 + 0.1 * i), **stamp}
        )
        tables["sample_data"].append(
            {
                "token": f"{token}-lidar",
                "sample_token": token,
                "ego_pose_token": token,
                "calibrated_sensor_token": "calibration",
                "filename": f"samples/LIDAR_TOP/{token}.pcd.bin",
                "fileformat": "pcd",
                "width": 0,
                "height": 0,
                "is_key_frame": True,
                "prev": "",
                "next": "",
                **stamp,
            }
        )
        for instance, name, at, velocity, size in objects:
            place = np.array([600.0, 1200.0]) + at + velocity * 0.5 * i
            tables["sample_annotation"].append(
                {
                    "token": f"{instance}-{i}",
                    "sample_token": token,
                    "instance_token": instance,
                    "visibility_token": "",
                    "attribute_tokens": [attribute_of(name)] if attribute_of(name) else [],
                    "translation": [*place.tolist(), size[2] / 2],
                    "size": size.tolist(),
                    "rotation": Quaternion(axis=[0, 0, 1], angle=len(instance) * 0.9 + at[0]).elements.tolist(),
                    "prev": f"{instance}-{i - 1}" if i else "",
                    "next": f"{instance}-{i + 1}" if i + 1 < samples else "",
                    "num_lidar_pts": 5,
                    "num_radar_pts": 1,
                }
            )
    for instance, name, *_ in objects:
        tables["instance"].append(
            {
                "token": instance,
                "category_token": CATEGORIES[name],
                "nbr_annotations": samples,
                "first_annotation_token": f"{instance}-0",
                "last_annotation_token": f"{instance}-{samples - 1}",
            }
        )


def _tilted(random: np.random.Generator, yaw: float) -> list[float]:
    """A rotation with a little roll and pitch, so that no axis comes out right by chance."""
    tilt = Quaternion(axis=random.normal(size=3), angle=0.02)
    return (Quaternion(axis=[0, 0, 1], angle=yaw) * tilt).elements.tolist()


def infos_of(nusc: NuScenes) -> list[dict[str, Any]]:
    """What an info file says of each sample's boxes and poses, by the devkit's own transforms."""
    names = {category: name for name, category in CATEGORIES.items()}
    infos = []
    for sample in nusc.sample:
        record = nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
        calibration = nusc.get("calibrated_sensor", record["calibrated_sensor_token"])
        ego = nusc.get("ego_pose", record["ego_pose_token"])
        _, boxes, _ = nusc.get_sample_data(record["token"])
        velocities = []
        for box in boxes:
            velocity = np.array(nusc.box_velocity(box.token))
            for pose in (ego, calibration):
                velocity = Quaternion(pose["rotation"]).inverse.rotate(velocity)
            velocities.append(velocity[:2])
        infos.append(
            {
                "token": sample["token"],
                "timestamp": sample["timestamp"],
                "scene_name": nusc.get("scene", sample["scene_token"])["name"],
                "lidar2ego_translation": calibration["translation"],
                "lidar2ego_rotation": calibration["rotation"],
                "ego2global_translation": ego["translation"],
                "ego2global_rotation": ego["rotation"],
                "gt_boxes": np.array([[*b.center, *b.wlh[[1, 0, 2]], b.orientation.yaw_pitch_roll[0]] for b in boxes]),
                "gt_names": np.array([names[b.name] for b in boxes]),
                "gt_velocity": np.array(velocities),
                "num_lidar_pts": np.full(len(boxes), 5),
                "num_radar_pts": np.full(len(boxes), 1),
                "valid_flag": np.ones(len(boxes), bool),
            }
        )
    return infos
