"""Boxes as nuScenes annotates them: instances through a scene, with visibility and point counts of the real files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from racdino.synthetic.geometry import Boxes, quaternion
from racdino.synthetic.scene_records import SceneRecords
from racdino.synthetic.schedule import KEY_INTERVAL
from racdino.synthetic.seeding import token

ANNOTATED = 75.0  # metres from the ego; a thing is annotated from its first sample within to its last


def annotate(
    records: SceneRecords,
    lidar: Sequence[np.ndarray],
    radar: Sequence[np.ndarray],
    visible: Sequence[Counter[int]],
    covered: Sequence[Counter[int]],
) -> None:
    """Add the instances and annotations of a scene to ``records``.

    Args:
        lidar, radar: by sample the key frames' points, (n, 3) in the global frame; radars unfiltered and together.
        visible, covered: by sample, over the cameras, how many pixels show each thing and how many its outline has.
    """
    world = records.world
    times = [i * KEY_INTERVAL * 1e-6 for i in range(len(records.samples))]
    boxes = [_written(world.boxes(t)) for t in times]
    ego = np.array([world.ego_pose(t)[:2, 3] for t in times])
    flat = np.array([of_sample.centre[:, :2] for of_sample in boxes])
    within = np.linalg.norm(flat - ego[:, None], axis=-1) < ANNOTATED  # (samples, things)
    within[:, [not thing.kind.category for thing in world.things]] = False
    counts = [
        [boxes[i][within.any(axis=0)].points_inside(points[i]) for points in (lidar, radar)]
        for i in range(len(records.samples))
    ]
    for column, thing in enumerate(np.flatnonzero(within.any(axis=0))):
        seen = np.flatnonzero(within[:, thing])
        span = range(int(seen[0]), int(seen[-1]) + 1)
        names = {i: records.token("annotation", thing, i) for i in span}
        kind, attribute = world.things[thing].kind, world.things[thing].attribute
        instance = records.token("instance", thing)
        records.tables["instance"].append(
            {
                "token": instance,
                "category_token": token(records.seed, "category", kind.category),
                "nbr_annotations": len(span),
                "first_annotation_token": names[span[0]],
                "last_annotation_token": names[span[-1]],
            }
        )
        for i in span:
            length, width, height = boxes[i].size[thing].tolist()
            records.tables["sample_annotation"].append(
                {
                    "token": names[i],
                    "sample_token": records.samples[i],
                    "instance_token": instance,
                    "visibility_token": _visibility(visible[i][int(thing)], covered[i][int(thing)]),
                    "attribute_tokens": [token(records.seed, "attribute", attribute)] if attribute else [],
                    "translation": boxes[i].centre[thing].tolist(),
                    "size": [width, length, height],
                    "rotation": quaternion(boxes[i].rotations()[thing]),
                    "prev": names.get(i - 1, ""),
                    "next": names.get(i + 1, ""),
                    "num_lidar_pts": int(counts[i][0][column]),
                    "num_radar_pts": int(counts[i][1][column]),
                }
            )


def _written(boxes: Boxes) -> Boxes:
    """Annotations are rounded to the millimetre, as nuScenes' are."""
    return Boxes(boxes.centre.round(3), boxes.size.round(3), boxes.yaw)


def _visibility(shown: int, outline: int) -> str:
    """nuScenes' token of the part of an outline that the cameras see."""
    part = shown / outline if outline else 0.0
    return "1" if part <= 0.4 else "2" if part <= 0.6 else "3" if part <= 0.8 else "4"
