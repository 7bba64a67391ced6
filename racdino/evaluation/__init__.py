"""Detections to nuScenes submissions, official metrics, and speed. Plain numpy; only `nuscenes` needs the devkit."""

from __future__ import annotations

from racdino.evaluation.errors import EvaluationError
from racdino.evaluation.metrics import Metrics
from racdino.evaluation.submission import CLASS_NAMES, write_submission

__all__ = ["CLASS_NAMES", "EvaluationError", "Metrics", "write_submission"]
