"""The op, the backbone and the training step on a GPU, each beside its peers, in one run: README.md's "On a GPU".

    python benchmarks/gpu.py [--only msda backbone training] [--json FILE]

Prints what benchmarks/msda.py --cuda, backbone.py and training.py print, and adds every row to FILE as soon as it is
measured, so that pieces may run one after another. Needs a GPU, and nvcc for the mapping the op is compared with. Peers
that are not installed are left out with a sentence: `pip install timm transformers deformops` (the latter for Python
3.12 and torch 2.11); without a network, `pip download` elsewhere and `pip install --no-index --no-deps WHEELS`.
benchmarks/plot_gpu.py draws FILE.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import gpu_results

MEASUREMENTS = ("msda", "backbone", "training")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=MEASUREMENTS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="every round is added to FILE")
    options = parser.parse_args()
    missing = what_is_missing(options.only)
    if missing:
        sys.exit(f"gpu.py: {missing}")
    if options.json:
        gpu_results.of_this_machine(options.json)  # refused before minutes are spent, not after
    for name in options.only:
        rows = importlib.import_module(f"benchmarks.{name}").measure()  # needs the compiled op, so only now
        gpu_results.collect(options.json, name, rows)
        gc.collect()  # peaks count what is allocated
        torch.cuda.empty_cache()
    return 0


def what_is_missing(measurements: Sequence[str]) -> str:
    """The sentence that says why these cannot run here; empty where they can."""
    if not torch.cuda.is_available():
        return "no NVIDIA GPU that torch can use is here, and every figure is measured on one."
    if "msda" in measurements and shutil.which("nvcc") is None:
        return "nvcc, which compiles the mapping the op is compared with, is not on PATH; add it or leave msda out."
    return ""


if __name__ == "__main__":
    sys.exit(main())
