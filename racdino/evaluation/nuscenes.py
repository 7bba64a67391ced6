"""Official nuScenes detection metrics: the devkit's ``DetectionEval``, unchanged, on a submission."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nuscenes import NuScenes
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.detection.data_classes import DetectionConfig, DetectionMetrics
from nuscenes.eval.detection.evaluate import DetectionEval
from nuscenes.utils.splits import create_splits_scenes

from racdino.evaluation.detections import DetectionsLike
from racdino.evaluation.errors import EvaluationError
from racdino.evaluation.metrics import ERRORS, Metrics
from racdino.evaluation.submission import CLASS_NAMES, MODALITY, write_submission
from racdino.training.files import write_text

SUBMISSION = "results_nusc.json"
SUMMARY = "metrics_summary.json"  # the devkit's own file, by its own name
EVAL_SETS = {"v1.0-mini": ("mini_train", "mini_val"), "v1.0-trainval": ("train", "val")}
_UNDEFINED = {"traffic_cone": ("orient_err", "vel_err", "attr_err"), "barrier": ("vel_err", "attr_err")}


def eval_set_of(infos: Sequence[Mapping[str, Any]], version: str) -> str:
    """The official split that the scenes of ``infos`` belong to.

    Raises:
        EvaluationError: there is none: a test set, unofficial scenes, or several splits in one file.
    """
    if version not in EVAL_SETS:
        raise EvaluationError(
            f"{version} has no public ground truth, so only its results can be written: use --results-only."
        )
    scenes = {str(info["scene_name"]) for info in infos}
    official = create_splits_scenes()
    for name in EVAL_SETS[version]:
        if scenes and scenes <= set(official[name]):
            return name
    raise EvaluationError(
        f"The info file's {len(scenes)} scenes ({', '.join(sorted(scenes)[:3])}, ...) are not all of one official "
        f"split of {version} ({' or '.join(EVAL_SETS[version])}), and the official evaluation knows no others."
    )


def evaluate(
    results: Sequence[DetectionsLike],
    infos: Sequence[Mapping[str, Any]],
    data_root: Path,
    version: str,
    eval_set: str,
    output: Path,
    class_names: Sequence[str] = CLASS_NAMES,
    modality: Mapping[str, bool] = MODALITY,
) -> Metrics:
    """Write the submission into the folder ``output`` and evaluate it.

    Args:
        results: one per info, in order; rows in the LiDAR frame (`racdino.evaluation.detections.Found`).
        infos: those of the data set that ``results`` were computed from.
        data_root: folder that holds the tables of ``version``, e.g. v1.0-mini.
        eval_set: train, val, mini_train or mini_val; `eval_set_of` tells.
    Raises:
        EvaluationError: results, tables or samples do not fit; nothing is half-written.
    """
    submission = write_submission(results, infos, Path(output) / SUBMISSION, class_names, modality)
    return evaluate_submission(submission, data_root, version, eval_set)


def evaluate_submission(submission: Path, data_root: Path, version: str, eval_set: str) -> Metrics:
    """Metrics of a submission file; the devkit's summary is written beside it."""
    if eval_set not in EVAL_SETS.get(version, ()):
        raise EvaluationError(f"{version} has no split {eval_set} with public ground truth; {EVAL_SETS} have.")
    if not submission.is_file():
        raise EvaluationError(f"There are no results at {submission}; `racdino eval CONFIG CHECKPOINT` writes them.")
    tables = Path(data_root) / version
    if not (tables / "sample_annotation.json").is_file():
        raise EvaluationError(
            f"{tables} holds no sample_annotation.json: metrics need the tables of {version} in the data root."
        )
    maps = json.loads((tables / "map.json").read_text(encoding="utf-8"))
    absent = [row["filename"] for row in maps if not (Path(data_root) / row["filename"]).is_file()]
    if absent:  # the devkit opens them whether or not they are needed
        raise EvaluationError(f"{Path(data_root) / absent[0]} is missing, without which the devkit loads no tables.")
    nusc = NuScenes(version=version, dataroot=str(data_root), verbose=False)
    if not nusc.sample_annotation:
        raise EvaluationError(f"{tables} has no annotation at all, so there is nothing to evaluate against.")
    content = json.loads(submission.read_text(encoding="utf-8"))
    found, meta = content["results"], content["meta"]
    _compare_samples(set(found), _samples(nusc, eval_set), submission, eval_set)
    config = config_factory("detection_cvpr_2019")
    if any(found.values()):
        with tempfile.TemporaryDirectory() as plots:  # the devkit makes a folder for plots, wanted or not
            metrics, _ = DetectionEval(nusc, config, str(submission), eval_set, plots, verbose=False).evaluate()
    else:
        metrics = _without_detections(config)
    summary = {**metrics.serialize(), "meta": meta}
    write_text(submission.parent / SUMMARY, json.dumps(summary, indent=2) + "\n")
    return Metrics.of_summary(summary, eval_set, len(found))


def _samples(nusc: NuScenes, eval_set: str) -> set[str]:
    scenes = set(create_splits_scenes()[eval_set])
    names = {scene["token"]: scene["name"] for scene in nusc.scene}
    return {sample["token"] for sample in nusc.sample if names[sample["scene_token"]] in scenes}


def _compare_samples(found: set[str], expected: set[str], submission: Path, eval_set: str) -> None:
    if found == expected:
        return
    missing, foreign = sorted(expected - found), sorted(found - expected)
    lacks = f"lacks {len(missing)} of its {len(expected)} samples, e.g. {missing[0]}" if missing else ""
    has = f"has {len(foreign)} samples that are not in it, e.g. {foreign[0]}" if foreign else ""
    raise EvaluationError(
        f"The official evaluation takes a submission for the whole of {eval_set} only, and {submission} "
        f"{' and '.join(filter(None, (lacks, has)))}: run on every sample of the split, with infos of the same tables."
    )


def _without_detections(config: DetectionConfig) -> DetectionMetrics:
    """What the devkit gives when nothing is right: it cannot evaluate a submission without a single box itself."""
    metrics = DetectionMetrics(config)
    for name in config.class_names:
        for distance in config.dist_ths:
            metrics.add_label_ap(name, distance, 0.0)
        for error in ERRORS:
            metrics.add_label_tp(name, error, math.nan if error in _UNDEFINED.get(name, ()) else 1.0)
    metrics.add_runtime(0.0)
    return metrics
