"""A nuScenes detection submission: one JSON file, global frame, no NuScenes object needed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from racdino.evaluation.detections import DetectionsLike, checked
from racdino.evaluation.errors import EvaluationError
from racdino.evaluation.geometry import to_global
from racdino.training.files import write_whole

# RaCFormer's order; the labels of its checkpoints are indices into it.
CLASS_NAMES = (
    "car",
    "truck",
    "trailer",
    "bus",
    "construction_vehicle",
    "bicycle",
    "motorcycle",
    "pedestrian",
    "traffic_cone",
    "barrier",
)
# Metres within which detection_cvpr_2019 counts a class; equal to the devkit's, which a test compares.
CLASS_RANGE = {
    **dict.fromkeys(("car", "truck", "trailer", "bus", "construction_vehicle"), 50.0),
    **dict.fromkeys(("bicycle", "motorcycle", "pedestrian"), 40.0),
    **dict.fromkeys(("traffic_cone", "barrier"), 30.0),
}
MODALITY = {"use_camera": True, "use_lidar": False, "use_radar": True, "use_map": False, "use_external": True}
MAX_BOXES = 500  # per sample
MOVING = 0.2  # m/s

# Attribute of a moving object, and of one at rest, by class: the field's rule, since the detector predicts none.
_ATTRIBUTES = {
    **dict.fromkeys(("car", "truck", "trailer", "construction_vehicle"), ("vehicle.moving", "vehicle.parked")),
    "bus": ("vehicle.moving", "vehicle.stopped"),
    **dict.fromkeys(("bicycle", "motorcycle"), ("cycle.with_rider", "cycle.without_rider")),
    "pedestrian": ("pedestrian.moving", "pedestrian.standing"),
    **dict.fromkeys(("traffic_cone", "barrier"), ("", "")),
}


def attribute(class_name: str, speed: float) -> str:
    """nuScenes' attribute of a box whose speed in m/s is known; empty where the class has none."""
    moving, resting = _ATTRIBUTES[class_name]
    return moving if speed > MOVING else resting


def write_submission(
    results: Sequence[DetectionsLike],
    infos: Sequence[Mapping[str, Any]],
    path: Path,
    class_names: Sequence[str] = CLASS_NAMES,
    modality: Mapping[str, bool] = MODALITY,
) -> Path:
    """Write what was found in each info's sample to ``path``, whole or not at all.

    Boxes beyond their class's range are left out, as the official evaluation would, and of more than 500 in a sample
    those of the lowest scores.

    Raises:
        EvaluationError: results are missing, or a detection is unusable; the message names the sample.
    """
    if len(results) != len(infos):
        raise EvaluationError(
            f"There are results for {len(results)} samples, but the info file has {len(infos)}: "
            "a submission needs one, be it empty, for each."
        )
    unknown = [name for name in class_names if name not in CLASS_RANGE]
    if unknown:
        raise EvaluationError(f"nuScenes detection has no class {', '.join(unknown)}; it has {', '.join(CLASS_NAMES)}.")

    def write(file: BinaryIO) -> None:  # sample by sample: a validation set is hundreds of megabytes
        file.write(f'{{"meta": {json.dumps(dict(modality))}, "results": {{'.encode())
        for number, (detections, info) in enumerate(zip(results, infos, strict=True)):
            entries = list(sample_entries(detections, info, class_names))
            text = f"{', ' if number else ''}{json.dumps(info['token'])}: {json.dumps(entries, allow_nan=False)}"
            file.write(text.encode())
        file.write(b"}}\n")

    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, write)
    return path


def sample_entries(
    detections: DetectionsLike, info: Mapping[str, Any], class_names: Sequence[str] = CLASS_NAMES
) -> Iterator[dict[str, Any]]:
    """The submission's entries for one sample, best score first."""
    token = info["token"]
    found = checked(detections, token, len(class_names))
    boxes = to_global(found.boxes, info)
    ranges = np.array([CLASS_RANGE[name] for name in class_names])[found.labels]
    order = np.argsort(-found.scores, kind="stable")
    for i in order[(boxes.distance < ranges)[order]][:MAX_BOXES]:
        name = class_names[found.labels[i]]
        yield {
            "sample_token": token,
            # Micrometres are enough and halve the file; scores stay exact, since ties would change the ranking.
            "translation": boxes.centre[i].round(6).tolist(),
            "size": boxes.size[i].round(6).tolist(),
            "rotation": boxes.rotation[i].round(9).tolist(),
            "velocity": boxes.velocity[i].round(6).tolist(),
            "detection_name": name,
            "detection_score": float(found.scores[i]),
            "attribute_name": attribute(name, float(np.linalg.norm(boxes.velocity[i]))),
        }
