"""The numbers of an evaluation, as a table for people and as JSON for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# The devkit's keys and the names that papers use.
ERRORS = {"trans_err": "ATE", "scale_err": "ASE", "orient_err": "AOE", "vel_err": "AVE", "attr_err": "AAE"}


@dataclass(frozen=True)
class Metrics:
    """nuScenes detection metrics (Caesar et al. 2020, arXiv:1903.11027), detection_cvpr_2019.

    Attributes:
        eval_set: official split, e.g. mini_val.
        samples: how many samples it has here.
        nds: nuScenes detection score.
        mean_ap: over classes and the four matching distances.
        errors: mATE (m), mASE (1 - IoU), mAOE (rad), mAVE (m/s), mAAE (1 - accuracy).
        class_ap: by class, over the four distances.
        class_ap_by_distance: by class, then by matching distance in metres.
        class_errors: by class, then ATE, ASE, AOE, AVE, AAE; NaN where the class has none.
    """

    eval_set: str
    samples: int
    nds: float
    mean_ap: float
    errors: Mapping[str, float]
    class_ap: Mapping[str, float]
    class_ap_by_distance: Mapping[str, Mapping[float, float]]
    class_errors: Mapping[str, Mapping[str, float]]

    @classmethod
    def of_summary(cls, summary: Mapping[str, Any], eval_set: str, samples: int) -> Metrics:
        """Out of what the devkit's ``DetectionMetrics.serialize`` returns."""
        return cls(
            eval_set=eval_set,
            samples=samples,
            nds=float(summary["nd_score"]),
            mean_ap=float(summary["mean_ap"]),
            errors={f"m{short}": float(summary["tp_errors"][key]) for key, short in ERRORS.items()},
            class_ap={name: float(value) for name, value in summary["mean_dist_aps"].items()},
            class_ap_by_distance={
                name: {float(distance): float(ap) for distance, ap in aps.items()}
                for name, aps in summary["label_aps"].items()
            },
            class_errors={
                name: {short: float(errors[key]) for key, short in ERRORS.items()}
                for name, errors in summary["label_tp_errors"].items()
            },
        )

    def as_json(self) -> dict[str, Any]:
        """Plain data; what is undefined is None, since JSON has no NaN."""
        return {
            "eval_set": self.eval_set,
            "samples": self.samples,
            "NDS": self.nds,
            "mAP": self.mean_ap,
            **self.errors,
            "classes": {
                name: {
                    "AP": ap,
                    "AP_by_distance": {str(distance): value for distance, value in by_distance.items()},
                    **{key: None if math.isnan(value) else value for key, value in self.class_errors[name].items()},
                }
                for (name, ap), by_distance in zip(
                    self.class_ap.items(), self.class_ap_by_distance.values(), strict=True
                )
            },
        }

    def table(self) -> str:
        """Means in the first two lines, then a line per class."""
        means = "  ".join(f"{name} {value:.3f}" for name, value in self.errors.items())
        lines = [
            f"{self.eval_set}, {self.samples} samples: NDS {self.nds:.4f}  mAP {self.mean_ap:.4f}",
            means,
            "",
            f"{'class':<22}" + "".join(f"{name:>8}" for name in ("AP", *ERRORS.values())),
        ]
        for name, ap in self.class_ap.items():
            values = (ap, *self.class_errors[name].values())
            lines.append(
                f"{name:<22}" + "".join(f"{'-' if math.isnan(value) else f'{value:.3f}':>8}" for value in values)
            )
        return "\n".join(lines)
