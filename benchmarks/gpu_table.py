"""The READMEs' table of GPU figures: its cells follow from the raw results, its words are each README's own.

A row's words stand in its first two cells; the other three are `cells` of the results, in this order.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from benchmarks.gpu_results import Row

MARK = "<!-- figures of benchmarks/results/gpu.json, by benchmarks/plot_gpu.py --table -->"
OP_CASES = ("inj_b6", "ext_b6", "ddetr_b1")
OP_PEERS = ("ours", "one thread per channel", "grid_sample", "deformops")
VIT_PEERS = ("ours eager", "ours compiled", "timm compiled")
NONE = "–"
_WORDS = 2


def fill(readme: str, results: dict[str, Any]) -> str:
    """``readme`` with the figures of ``results`` in the table below the mark.

    Raises:
        ValueError: there is no such table, or not of as many rows as the results give.
    """
    lines = readme.splitlines()
    first = lines.index(MARK) + 4 if MARK in lines else len(lines)  # a blank line, the heads, the rule
    rows = list(cells(results))
    old = lines[first : first + len(rows)]
    after = lines[first + len(rows)] if first + len(rows) < len(lines) else ""
    if len(old) < len(rows) or not all(line.startswith("|") for line in old) or after.startswith("|"):
        raise ValueError(f"The README has no table of {len(rows)} rows below the line {MARK}")
    for place, (line, found) in enumerate(zip(old, rows, strict=True), start=first):
        words = line.strip("| ").split(" | ")[:_WORDS]
        lines[place] = f"| {' | '.join((*words, *found))} |"
    return "\n".join(lines) + "\n"


def cells(results: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Forward, forward + backward, GiB of each row."""
    for case in OP_CASES:
        for dtype in ("float32", "float16"):
            forward, both = (_op(results, case, dtype, what) for what in ("forward", "forward+backward"))
            yield forward, both, NONE
    for part in ("ViT-B", "ViT-L"):
        for images in (6, 48):
            same: dict[str, Any] = {"part": part, "images": images}
            peers = (_row(results, "backbone", **same, peer=peer) for peer in VIT_PEERS)
            yield " / ".join(map(_milliseconds, peers)), NONE, NONE
    yield _adapter(results)
    for samples in (1, 2):
        ours, plain = (_row(results, "training", samples=samples, structure=name) for name in ("ours", "plain"))
        speed = f"{ours['images_per_s']:.0f} ({ours['images_per_s'] / plain['images_per_s']:.2f})"
        recomputed = " (`with_cp`)" * ours["adapter_with_cp"]
        yield NONE, speed, f"{ours['peak_gib']:.1f}{recomputed}"


def _row(results: dict[str, Any], measurement: str, **same: Any) -> Row:
    for row in results.get(measurement, []):
        if all(row[name] == value for name, value in same.items()):
            return row
    raise ValueError(f"The results have no row of {measurement} with {same}.")


def _op(results: dict[str, Any], case: str, dtype: str, what: str) -> str:
    times = _row(results, "msda", case=case, spread="near", dtype=dtype, what=what)["microseconds"]
    return " / ".join(figure(statistics.median(times[peer])) if peer in times else NONE for peer in OP_PEERS)


def _adapter(results: dict[str, Any]) -> tuple[str, str, str]:
    forward, step, again = (
        _row(results, "backbone", part="adapter", images=48, what=what)
        for what in ("forward", "training step", "training step, with_cp")
    )
    times = [f"{_milliseconds(row)} ({row['of_vit_alone']:.1f})" for row in (forward, step)]
    return times[0], times[1], f"{step['peak_gib']:.1f} / {again['peak_gib']:.1f}"


def _milliseconds(row: Row) -> str:
    return figure(statistics.median(row["milliseconds"]))


def figure(value: float) -> str:
    """Three digits, and all of those before the point."""
    return f"{value:.0f}" if value >= 99.95 else f"{value:.{1 if value >= 9.995 else 2}f}"
