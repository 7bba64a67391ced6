"""Training curves out of a JSON log: loss, learning rate, and the metrics of each evaluation."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from racdino.training.files import write_whole

METRICS = ("NDS", "mAP")
_TOTAL = "loss"


def draw_curves(log_json: Path, output: Path) -> None:
    """Draw the log of one run, resumed or not, as a PNG.

    Args:
        log_json: mmcv's: one JSON object a line with mode, epoch and iter (within the epoch). Lines that are cut off,
            as a killed run leaves them, are passed over; of an iteration that was logged twice, by a run that was
            resumed before it, the later line counts. Values that are not finite are gaps, marked at the foot.
        output: the PNG, which appears whole or not at all.
    Raises:
        ValueError: the log holds no training iteration.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    records = read_log(log_json)
    training = [record for record in records if record["mode"] == "train"]
    if not training:
        raise ValueError(f"{log_json} holds no training iteration yet, so there is no curve to draw.")
    per_epoch = max(record["iter"] for record in records)
    evaluations = [record for record in records if record["mode"] == "val"]
    figure = Figure(figsize=(13, 4), tight_layout=True)
    canvas = FigureCanvasAgg(figure)
    loss, rate, metric = figure.subplots(1, 3)
    epochs = [record["epoch"] - 1 + record["iter"] / per_epoch for record in training]
    names = [name for name in dict.fromkeys(key for record in training for key in record) if _is_loss(name)]
    for name in sorted(names, key=lambda name: name != _TOTAL):
        main = name == _TOTAL
        _plot(loss, epochs, series(training, name), name, linewidth=2 if main else 0.7, color="black" if main else None)
    loss.set_yscale("log")
    _plot(rate, epochs, series(training, "lr"), "learning rate", color="tab:blue")
    for name in METRICS:
        at = [record["epoch"] for record in evaluations]
        _plot(metric, at, series(evaluations, name), name, marker="o", markersize=3)
    metric.set_ylim(0, 1)
    for axes, title in ((loss, "loss"), (rate, "learning rate"), (metric, "evaluation")):
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        if axes.lines and axes is not rate:
            axes.legend(fontsize=6 if len(axes.lines) > 4 else 9, ncol=1 + len(axes.lines) // 9)
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_whole(output, canvas.print_png)


def read_log(log_json: Path) -> list[dict[str, Any]]:
    """The records of a log in order of mode, epoch and iteration, one for each."""
    latest = {(record["mode"], record["epoch"], record["iter"]): record for record in _lines(Path(log_json))}
    return [latest[key] for key in sorted(latest)]


def series(records: Sequence[dict[str, Any]], name: str) -> list[float]:
    """The values called ``name``, also behind a prefix and a slash; NaN where there is none or it is not finite."""
    return [_number(record, name) for record in records]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            kinds = {"mode": str, "epoch": int, "iter": int}  # without them it is the run's description
            if isinstance(record, dict) and all(isinstance(record.get(key), kind) for key, kind in kinds.items()):
                yield record


def _number(record: dict[str, Any], name: str) -> float:
    value = record.get(name)
    if value is None:
        value = next((record[key] for key in record if key.endswith(f"/{name}")), None)
    known = isinstance(value, (int, float)) and math.isfinite(value)
    return float(value) if known else math.nan  # type: ignore[arg-type]


def _is_loss(name: str) -> bool:
    return name.rpartition(".")[2].startswith("loss")


def _plot(axes: Any, x: Sequence[float], y: Sequence[float], label: str, **style: Any) -> None:
    if any(map(math.isfinite, y)):
        axes.plot(x, y, label=label, **style)
    gaps = [at for at, value in zip(x, y, strict=True) if math.isnan(value)]
    if gaps and label == _TOTAL:
        axes.plot(gaps, [0.02] * len(gaps), "rx", transform=axes.get_xaxis_transform(), label="not finite")
