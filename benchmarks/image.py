"""How soon a command of the image answers, beside a container that does nothing: `python benchmarks/image.py`.

Prints the medians of both and their ratio, in the same run and interleaved. RACDINO_TEST_IMAGE names another image.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.image.engine import find_engine

RUNS = 9


def seconds(command: list[str]) -> float:
    """Wall time of one command, which must succeed."""
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> int:
    engine = find_engine()
    image = os.environ.get("RACDINO_TEST_IMAGE", "racdino:latest")
    run = [str(engine.path), "run", "--rm", "--pull=never"]
    commands = {"nothing": [*run, "--entrypoint", "/bin/true", image], "info": [*run, image, "info"]}
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(RUNS):
        for name, command in commands.items():
            times[name].append(seconds(command))
    nothing, info = (statistics.median(times[name]) for name in commands)
    print(f"{engine.name} {engine.version}, {image}, median of {RUNS}")
    print(f"a container that does nothing {nothing:.2f} s; `racdino info` {info:.2f} s, {info / nothing:.2f} of it")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
