"""Draw what benchmarks/gpu.py measured, or write its figures into the table of a README.

python benchmarks/plot_gpu.py benchmarks/results/gpu.json docs/images/gpu.png
python benchmarks/plot_gpu.py benchmarks/results/gpu.json --table README.md README.zh-CN.md
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import gpu_results  # noqa: E402
from benchmarks.gpu_table import fill  # noqa: E402
from racdino.training.files import write_whole  # noqa: E402

BASE = "one thread per channel"
CASES = {  # from the top
    "inj_b6": "ViT-B injector, 6 images",
    "inj_b48": "ViT-B injector, 48 images",
    "ext_b6": "ViT-B extractor, 6 images",
    "ext_b48": "ViT-B extractor, 48 images",
    "ddetr_b1": "Deformable-DETR, 1 image",
    "ddetr_b2": "Deformable-DETR, 2 images",
    "m2f_b1": "Mask2Former, 1 image",
}
# Okabe and Ito's colours: told apart whatever one's colour vision.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#999999"
OP_PEERS = {"ours": BLUE, "deformops": ORANGE, "grid_sample": GREY}
DTYPES = {"float32": "o", "float16": "D"}
LIBRARIES = {"ours": BLUE, "timm": ORANGE, "transformers": GREEN}
# The parts of training.py; those that are in none of these are drawn as others.
PARTS = {
    "adapter": (BLUE, ("adapter",)),
    "ResNet, necks": ("#56B4E9", ("backbone", "fusion and necks")),
    "views to BEV, radar": (GREEN, ("view transform", "radar encoder", "temporal encoder")),
    "decoder": (
        ORANGE,
        ("queries", "self attention", "view sampling", "BEV sampling", "mixing", "feed-forward"),
    ),
    "losses": ("#CC79A7", ("losses",)),
}


def draw(results: dict[str, Any], output: Path) -> None:
    """The three panels that ``results`` has rows for, as a PNG that appears whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), constrained_layout=True)
    canvas = FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2)
    if results.get("msda"):
        forward = figure.add_subplot(grid[0, 0])
        both = figure.add_subplot(grid[0, 1], sharey=forward)
        _op(forward, results["msda"], "forward", "a  The op, forward")
        _op(both, results["msda"], "forward+backward", "The op, forward + backward")
        both.tick_params(labelleft=False)
        _legend(both, handles=_op_legend(), ncol=5)
    if results.get("backbone"):
        _vit(figure.add_subplot(grid[1, 0]), results["backbone"])
    if results.get("training"):
        _training(figure.add_subplot(grid[1, 1]), results["training"])
    figure.suptitle(f"{results['card']}, torch {results['torch']}", fontsize=11)
    write_whole(output, canvas.print_png)


def _op(axes: Any, rows: Sequence[gpu_results.Row], what: str, title: str) -> None:
    """How many times as fast as the original's mapping, samples near their queries."""
    found = [row for row in rows if row["what"] == what and row["spread"] == "near" and row["dtype"] in DTYPES]
    cases = [case for case in CASES if any(row["case"] == case for row in found)]
    for row in found:
        times = {peer: statistics.median(measured) for peer, measured in row["microseconds"].items()}
        place = cases.index(row["case"]) + (0.15 if row["dtype"] == "float16" else -0.15)
        for peer in (peer for peer in OP_PEERS if peer in times and BASE in times):
            axes.plot(times[BASE] / times[peer], place, DTYPES[row["dtype"]], color=OP_PEERS[peer], markersize=6)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    ticks = (0.1, 0.2, 0.5, 1, 2, 5, 10)
    axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(cases)), [CASES[case] for case in cases])
    axes.set_ylim(len(cases) - 0.5, -0.5)
    _finish(axes, title, f"speed, {BASE} = 1x")


def _op_legend() -> list[Any]:
    from matplotlib.lines import Line2D

    peers = [Line2D([], [], marker="s", linestyle="", color=color, label=name) for name, color in OP_PEERS.items()]
    dtypes = [Line2D([], [], marker=mark, linestyle="", color="black", label=name) for name, mark in DTYPES.items()]
    return peers + dtypes


def _vit(axes: Any, rows: Sequence[gpu_results.Row]) -> None:
    """Milliseconds an image: eager in full colour, compiled hatched."""
    found = [row for row in rows if row["part"].startswith("ViT")]
    groups = list(dict.fromkeys((row["part"], row["images"]) for row in found))
    peers = [f"{library} {way}" for way in ("eager", "compiled") for library in LIBRARIES]
    peers = [peer for peer in peers if any(row["peer"] == peer for row in found)]
    height = 0.8 / max(len(peers), 1)
    for row in found:
        library, way = row["peer"].split()
        place = groups.index((row["part"], row["images"])) + (peers.index(row["peer"]) - (len(peers) - 1) / 2) * height
        per_image = statistics.median(row["milliseconds"]) / row["images"]
        hatch = "////" if way == "compiled" else None
        label = row["peer"] if (row["part"], row["images"]) == groups[0] else None
        axes.barh(
            place, per_image, height, color=LIBRARIES[library], hatch=hatch, edgecolor="white", linewidth=0, label=label
        )
        axes.text(per_image, place, f" {per_image:.2f}", va="center", fontsize=7)
    axes.set_yticks(range(len(groups)), [f"{part}, {images} images" for part, images in groups])
    axes.set_ylim(len(groups) - 0.5, -0.5)
    handles, labels = axes.get_legend_handles_labels()
    _legend(axes, handles=[handles[labels.index(peer)] for peer in peers], ncol=3)
    _finish(axes, "b  DINOv2 forward, 266x714, bfloat16", "ms per image")


def _training(axes: Any, rows: Sequence[gpu_results.Row]) -> None:
    """Milliseconds an image, cut into the parts' shares."""
    for place, row in enumerate(rows):
        begin = 0.0
        for name, (color, share) in shares(row["parts_ms"]).items():
            width = 1e3 / row["images_per_s"] * share
            axes.barh(place, width, 0.7, left=begin, color=color, edgecolor="white", label=None if place else name)
            begin += width
        axes.text(begin, place, f" {row['images_per_s']:.0f} images/s", va="center", fontsize=8)
    labels = (f"{row['structure']}, batch {row['samples']}{' (with_cp)' * row['adapter_with_cp']}" for row in rows)
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 1.25 * max(1e3 / row["images_per_s"] for row in rows))
    _legend(axes, ncol=3)
    _finish(axes, "c  Training step, R50 + DINOv2 ViT-B, 8 frames", "ms per image")


def shares(parts_ms: dict[str, float]) -> dict[str, tuple[str, float]]:
    """Colour and share of a step's time of each part that is drawn; the shares add up to 1."""
    total = sum(parts_ms.values())
    found = {
        name: (color, sum(parts_ms.get(member, 0.0) for member in members) / total)
        for name, (color, members) in PARTS.items()
    }
    return {**found, "others": (GREY, 1 - sum(share for _, share in found.values()))}


def _legend(axes: Any, **named: Any) -> None:
    axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.15), **named)


def _finish(axes: Any, title: str, label: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axes.set_xlabel(label)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, metavar="JSON")
    parser.add_argument("picture", type=Path, nargs="?", metavar="PNG")
    parser.add_argument("--table", type=Path, nargs="+", default=[], metavar="README")
    options = parser.parse_args()
    results = gpu_results.read(options.results)
    if options.picture:
        draw(results, options.picture)
    for readme in options.table:
        readme.write_text(fill(readme.read_text(encoding="utf-8"), results), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
