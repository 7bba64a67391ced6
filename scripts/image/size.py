"""Say what an image weighs and hold it to its budget: ``invoke image.size``.

The size of an image is the sum of its layers: what the engine's history gives for each, uncompressed, a file counted in
every layer that brings or replaces it. It is held against what the locked packages and Python weigh (files as their
archives brought them, without byte code, measured in the image), and against the size recorded in
docker/size-budget.json, the one home of both limits. Exit status 1 where it is over.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from scripts.image import weigh
from scripts.image.engine import Engine, find_engine
from scripts.image.errors import ImageError

BUDGET = Path(__file__).resolve().parents[2] / "docker" / "size-budget.json"
PYTHON = "/opt/venv/bin/python"
_OURS = "racdino"
_VARIANT = "org.racdino.variant"
_SHOWN = 1_000_000  # bytes: smaller packages are summed in one line


class LayerSize(NamedTuple):
    """One layer: its bytes, and the instruction that made it."""

    size: int
    instruction: str


@dataclass(frozen=True)
class Weight:
    """What an image weighs, in bytes.

    layers: lowest first, empty ones left out. python: the interpreter. byte_code: every ``.pyc``. distributions and
    debian: by package; dpkg's own figure for the latter.
    """

    image: str
    variant: str
    layers: list[LayerSize]
    python: int
    byte_code: int
    distributions: dict[str, int]
    debian: dict[str, int]

    @property
    def size(self) -> int:
        """The whole image."""
        return sum(layer.size for layer in self.layers)

    @property
    def locked(self) -> int:
        """Python and the packages of the locks: all but this project itself."""
        return self.python + sum(size for name, size in self.distributions.items() if name != _OURS)

    @property
    def ratio(self) -> float:
        """The image against what is locked in it."""
        return self.size / self.locked

    def packages(self) -> dict[str, int]:
        """Every weighed part by a name that is its own."""
        debian = {f"debian {name}": size for name, size in self.debian.items()}
        return {"Python": self.python, "byte code": self.byte_code, **self.distributions, **debian}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report; exit status 1 where the image is over its budget, 2 where it cannot be weighed."""
    parser = argparse.ArgumentParser(prog="invoke image.size", description="what an image weighs, by layer and package")
    parser.add_argument("image", nargs="?", default="racdino:latest")
    parser.add_argument("--record", action="store_true", help="write this image's size into docker/size-budget.json")
    options = parser.parse_args(arguments)
    try:
        weight = measure(find_engine(), options.image)
        budget = read_budget(BUDGET)
    except ImageError as error:
        print(f"image.size: {error}", file=sys.stderr)
        return 2
    print(report(weight, budget))
    if options.record:
        record(BUDGET, budget, weight)
        budget = read_budget(BUDGET)
    over = excess(weight, budget)
    if over:
        print(f"image.size: {over}", file=sys.stderr)
    return int(over is not None)


def measure(engine: Engine, image: str) -> Weight:
    """Weigh an image: its layers by the engine's history, its packages from inside.

    Raises:
        ImageError: there is no such image, or it is not one of ours.
    """
    labels = json.loads(engine.output(["image", "inspect", "--format", "{{json .Config.Labels}}", image])) or {}
    if _VARIANT not in labels:
        raise ImageError(f"{image} has no label {_VARIANT}: name an image that `make image` built.")
    source = Path(weigh.__file__).read_text(encoding="utf-8")
    inside = ["run", "--rm", "--network", "none", "--entrypoint", PYTHON, image, "-I", "-c", source]
    try:
        parts = json.loads(engine.output(inside))
    except ImageError as error:  # whose sentence quotes the whole script
        last = str(error).rpartition("failed: ")[2]
        raise ImageError(f"{image} could not be weighed from inside ({last}): `docker run` it to see why.") from error
    return Weight(
        image=image,
        variant=labels[_VARIANT],
        layers=read_layers(engine, image),
        python=parts["python"],
        byte_code=parts["byte code"],
        distributions=parts["distributions"],
        debian=parts["debian"],
    )


def read_layers(engine: Engine, image: str) -> list[LayerSize]:
    """The layers of an image that hold anything, lowest first."""
    command = ["history", "--no-trunc", "--human=false", "--format", "{{json .}}", image]
    lines = [json.loads(line) for line in engine.output(command).splitlines() if line.strip()]
    steps = [{key.lower(): value for key, value in line.items()} for line in lines]  # docker's CreatedBy, podman's size
    layers = [
        LayerSize(int(step["size"]), " ".join((step.get("createdby") or step.get("comment", "")).split()))
        for step in reversed(steps)
    ]
    return [layer for layer in layers if layer.size]


def read_budget(path: Path) -> dict[str, Any]:
    """``ratio`` and ``growth`` allowed, and per variant the size and the packages that were ``recorded``."""
    try:
        budget = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ImageError(f"{path} cannot be read ({error}): restore it with git.") from error
    if not isinstance(budget, dict) or budget.keys() != {"ratio", "growth", "recorded"}:
        raise ImageError(f"{path} must hold ratio, growth and recorded, and nothing else: restore it with git.")
    return budget


def record(path: Path, budget: dict[str, Any], weight: Weight) -> None:
    """Replace what is recorded for the image's variant."""
    entry = {"size": weight.size, "packages": dict(sorted(weight.packages().items()))}
    budget = {**budget, "recorded": dict(sorted({**budget["recorded"], weight.variant: entry}.items()))}
    path.write_text(json.dumps(budget, indent=1) + "\n", encoding="utf-8")


def excess(weight: Weight, budget: dict[str, Any]) -> str | None:
    """The sentence that says which limit the image is over; None where it keeps both."""
    if weight.ratio > budget["ratio"]:
        return (
            f"{weight.image} weighs {weight.ratio:.3f} of its locked packages and Python, and {BUDGET.name} allows "
            f"{budget['ratio']}: the layers above say where the rest is."
        )
    recorded = budget["recorded"].get(weight.variant)
    if recorded and weight.size > budget["growth"] * recorded["size"]:
        return (
            f"{weight.image} weighs {_shown(weight.size)}, more than {budget['growth']} of the "
            f"{_shown(recorded['size'])} in {BUDGET.name}: undo the growth above, or accept it with --record."
        )
    return None


def report(weight: Weight, budget: dict[str, Any]) -> str:
    """Layers, packages, ratio and growth as text; MB are 10^6 bytes."""
    lines = [f"{weight.image}: {_shown(weight.size)} in {len(weight.layers)} layers"]
    lines += [f"{_shown(layer.size):>12}  {layer.instruction[:100]}" for layer in weight.layers]
    lines += ["", "Python packages, without byte code"]
    large = {name: size for name, size in weight.distributions.items() if size >= _SHOWN}
    lines += _rows(large)
    small = len(weight.distributions) - len(large)
    lines += [_row(f"{small} smaller ones", sum(weight.distributions.values()) - sum(large.values()))]
    weighed = {
        "all Python packages": sum(weight.distributions.values()),
        "Python": weight.python,
        "byte code": weight.byte_code,
        f"{len(weight.debian)} Debian packages, by dpkg": sum(weight.debian.values()),
    }
    lines += ["", *_rows(weighed), _row("the rest", weight.size - sum(weighed.values()))]
    lines += [
        "",
        f"ratio: {weight.ratio:.3f} of locked packages and Python ({_shown(weight.locked)}), at most {budget['ratio']}",
    ]
    return "\n".join([*lines, *_growth(weight, budget["recorded"].get(weight.variant))])


def _growth(weight: Weight, recorded: dict[str, Any] | None) -> list[str]:
    if recorded is None:
        return [f"growth: no size of {weight.variant} is recorded; --record records this one"]
    now, then = weight.packages(), recorded["packages"]
    changes = {name: now.get(name, 0) - then.get(name, 0) for name in now.keys() | then.keys()}
    changed = sorted((name for name in changes if changes[name]), key=lambda name: (-abs(changes[name]), name))
    lines = [f"growth: {_signed(weight.size - recorded['size'])} since it was recorded"]
    return lines + [f"{_signed(changes[name]):>12}  {name}" for name in changed]


def _rows(sizes: dict[str, int]) -> list[str]:
    return [_row(name, size) for name, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))]


def _row(name: str, size: int) -> str:
    return f"{_shown(size):>12}  {name}"


def _shown(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _signed(size: int) -> str:
    return f"{size / 1e6:+,.1f} MB"


if __name__ == "__main__":
    raise SystemExit(main())
