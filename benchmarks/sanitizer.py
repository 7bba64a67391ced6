"""Run the op's CUDA kernels under compute-sanitizer: memcheck for addresses, racecheck for shared memory.

    python benchmarks/sanitizer.py

Every kernel variant that a dtype and a head width choose is run, forward, fused, and backward in its three ways: adding
directly, by cell, and sorted; and the decoder's ray_locations, on the ground and in views. Prints the tools' summaries;
the exit status is 1 when one of them found something.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ("memcheck", "racecheck")
FOUND = 86  # what compute-sanitizer shall exit with when it found something
# 16 to 128 channels are the groups of 4 to 32 lanes; 30 and 5 go element by element.
WIDTHS = (5, 16, 30, 32, 64, 128)
DTYPES = ("float64", "float32", "float16", "bfloat16")
# Queries. Of MORE, samples are too many for pixels to gather (pays_to_gather); of MANY, worth filing by cell
# (kSamplesWorthFiling).
FEW, MORE, MANY = 37, 150, 4800


def find() -> str:
    """The tool on PATH, or of the toolkit; or the sentence that says it is missing."""
    home = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"))
    places = (shutil.which("compute-sanitizer"), home / "bin" / "compute-sanitizer")
    for place in places:
        if place and Path(place).is_file():
            return str(place)
    sys.exit(
        f"sanitizer.py: compute-sanitizer is neither on PATH nor in {home}/bin; install the CUDA toolkit's or set "
        "CUDA_HOME."
    )


def work() -> None:
    """What runs under the tool."""
    sys.path.insert(0, str(ROOT))
    import torch

    from racdino.ops import Ray, ms_deform_attn, ms_deform_attn_fused, ray_locations

    shapes = torch.tensor([[12, 16], [6, 8], [3, 4], [2, 2]], device="cuda")
    starts = torch.cat([shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]])
    S, B, M, L, P = int(shapes.prod(1).sum()), 1, 2, 4, 4

    def run(dtype: torch.dtype, width: int, queries: int, deterministic: bool) -> None:
        exact = torch.float64 if dtype == torch.float64 else torch.float32
        lead = (B, queries, M, L, P)
        value = torch.rand(B, S, M, width, device="cuda").to(dtype).requires_grad_()
        locations = (torch.rand(*lead, 2, device="cuda", dtype=exact) * 1.4 - 0.2).requires_grad_()
        weights = torch.rand(lead, device="cuda", dtype=exact).requires_grad_()
        offsets = (torch.randn(*lead, 2, device="cuda") * 3).to(dtype).requires_grad_()
        boxes = torch.rand(B, queries, 1, 4, device="cuda", dtype=exact).requires_grad_()
        torch.use_deterministic_algorithms(deterministic)
        ms_deform_attn(value, shapes, starts, locations, weights).sum().backward()
        for stored in {dtype, exact}:
            logits = torch.randn(lead, device="cuda").to(stored).requires_grad_()
            ms_deform_attn_fused(value, shapes, starts, boxes, offsets.to(stored), logits).sum().backward()
        torch.use_deterministic_algorithms(False)

    for name in DTYPES:
        for width in WIDTHS:
            run(getattr(torch, name), width, FEW, False)
            run(getattr(torch, name), width, FEW, True)
            run(getattr(torch, name), width, MORE, True)
            if name != "float64" and width % 16 == 0:  # what backward_by_cell.cu takes
                run(getattr(torch, name), width, MANY, False)
    for dtype in (torch.float64, torch.float32):
        numbers = {"device": "cuda", "dtype": dtype}
        ray, ages = Ray((-51.2, -51.2, -5.0, 51.2, 51.2, 3.0), 65.0, 0.08, (256, 704)), torch.rand(2, 3, **numbers)
        views = torch.randn(2, 3, 6, 4, 4, **numbers), torch.tensor([[390, 176], [198, 88]], device="cuda")
        for dimensions, seen in ((2, ()), (3, views)):
            leaves = [torch.rand(2, 70, 5, 4, 4, dimensions, **numbers), torch.rand(2, 70, 5, **numbers)]
            leaves = [leaf.requires_grad_() for leaf in (*leaves, torch.rand(2, 70, 10, **numbers))]
            ray_locations(*leaves, ages, ray, *seen).sum().backward()
    torch.cuda.synchronize()


def main() -> int:
    tool_path, failed = find(), False
    for tool in TOOLS:
        command = [tool_path, "--tool", tool, "--error-exitcode", str(FOUND), sys.executable, __file__, "--work"]
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        summaries = [line for line in result.stdout.splitlines() if "SUMMARY" in line]
        print(*(f"{tool}: {line.lstrip('= ')}" for line in summaries), sep="\n", flush=True)
        if result.returncode or not summaries:
            failed = True
            print(result.stdout[-4000:], f"{tool}: exit status {result.returncode}", sep="\n", flush=True)
    return int(failed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    if parser.parse_args().work:
        work()
    else:
        sys.exit(main())
