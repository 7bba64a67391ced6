"""Run the op's CUDA kernels under compute-sanitizer: memcheck for addresses, racecheck for shared memory.

    python benchmarks/sanitizer.py

Every kernel variant that a dtype and a width choose is run: attention forward, fused, and backward in its five ways
(adding directly, by cell, by level, gathered, and sorted; with the last two, the dot products by themselves); the
decoder's ray_locations, on the ground and in views; the backbone's steps. Prints the tools' summaries; the exit status
is 1 when one of them found something.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ("memcheck", "racecheck")
FOUND = 86  # what compute-sanitizer shall exit with when it found something
# 16 to 128 channels are the groups of 4 to 32 lanes; 30 and 5 go element by element.
WIDTHS = (5, 16, 30, 32, 64, 128)
DTYPES = ("float64", "float32", "float16", "bfloat16")
LEVELS = ((12, 16), (6, 8), (3, 4), (2, 2))


class Size(NamedTuple):
    queries: int
    batch: int = 1
    levels: tuple[tuple[int, int], ...] = LEVELS


# Of MORE, samples are too many for pixels to gather (pays_to_gather); of MANY, worth filing by cell
# (kSamplesWorthFiling); of SPARSE, that many, but few to a pixel (pays_by_level).
FEW, MORE, MANY = Size(37), Size(150), Size(4800)
SPARSE = Size(200, batch=47, levels=((24, 48), (12, 24)))


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

    for name in DTYPES:
        attend(getattr(torch, name))
    for name in DTYPES[:2]:
        look(getattr(torch, name))
    for name in DTYPES[1:]:
        step(getattr(torch, name))
    torch.cuda.synchronize()


def attend(dtype: torch.dtype) -> None:
    import torch

    for width in WIDTHS:
        attend_once(dtype, width, FEW, deterministic=False)
        attend_once(dtype, width, FEW, deterministic=True)
        attend_once(dtype, width, MORE, deterministic=True)
        if dtype != torch.float64 and width % 16 == 0:  # what backward_by_cell.cu takes
            attend_once(dtype, width, MANY, deterministic=False)
    if torch.finfo(dtype).bits == 16:
        attend_once(dtype, 32, SPARSE, deterministic=False)
        attend_once(dtype, 32, SPARSE, deterministic=True)


def attend_once(dtype: torch.dtype, width: int, size: Size, deterministic: bool) -> None:
    import torch

    from racdino.ops import ms_deform_attn, ms_deform_attn_fused

    shapes = torch.tensor(size.levels, device="cuda")
    starts = torch.cat([shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]])
    S, B, Q, M, L, P = int(shapes.prod(1).sum()), size.batch, size.queries, 2, len(shapes), 4
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    lead = (B, Q, M, L, P)
    value = torch.rand(B, S, M, width, device="cuda").to(dtype).requires_grad_()
    locations = (torch.rand(*lead, 2, device="cuda", dtype=exact) * 1.4 - 0.2).requires_grad_()
    weights = torch.rand(lead, device="cuda", dtype=exact).requires_grad_()
    offsets = (torch.randn(*lead, 2, device="cuda") * 3).to(dtype).requires_grad_()
    boxes = torch.rand(B, Q, 1, 4, device="cuda", dtype=exact).requires_grad_()
    torch.use_deterministic_algorithms(deterministic)
    ms_deform_attn(value, shapes, starts, locations, weights).sum().backward()
    for stored in {dtype, exact}:
        logits = torch.randn(lead, device="cuda").to(stored).requires_grad_()
        ms_deform_attn_fused(value, shapes, starts, boxes, offsets.to(stored), logits).sum().backward()
    torch.use_deterministic_algorithms(False)


def look(dtype: torch.dtype) -> None:
    import torch

    from racdino.ops import Ray, ray_locations

    numbers = {"device": "cuda", "dtype": dtype}
    ray, ages = Ray((-51.2, -51.2, -5.0, 51.2, 51.2, 3.0), 65.0, 0.08, (256, 704)), torch.rand(2, 3, **numbers)
    views = torch.randn(2, 3, 6, 4, 4, **numbers), torch.tensor([[390, 176], [198, 88]], device="cuda")
    for dimensions, seen in ((2, ()), (3, views)):
        leaves = [torch.rand(2, 70, 5, 4, 4, dimensions, **numbers), torch.rand(2, 70, 5, **numbers)]
        leaves = [leaf.requires_grad_() for leaf in (*leaves, torch.rand(2, 70, 10, **numbers))]
        ray_locations(*leaves, ages, ray, *seen).sum().backward()


def step(dtype: torch.dtype) -> None:
    """The backbone's operators, where their kernels differ by width."""
    import torch

    from racdino.backbones.crop import crop
    from racdino.ops import add_layer_norm, batch_norm_act, depthwise_conv_gelu, weave

    def leaf(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.rand(*shape, device="cuda", dtype=dtype, requires_grad=True)

    for C in (384, 768, 1024, 1536):
        weight, bias = leaf(C), leaf(C)
        for parameters in ((weight, bias), (weight.to(dtype).detach(), bias.to(dtype).detach())):
            total, normed = add_layer_norm(leaf(1001, C, dtype=dtype), leaf(1001, C, dtype=dtype), *parameters, 1e-6)
            (add_layer_norm(total, None, *parameters, 1e-6)[1] + normed).sum().backward()
    sizes = [(17, 45), (9, 1), (1, 7)]
    for C in (6, 192):
        depthwise_conv_gelu(leaf(2, 781, C, dtype=dtype), leaf(C, 1, 3, 3), leaf(C), sizes).sum().backward()
    for C, H, W in ((8, 7, 9), (768, 10, 12)):
        rows = [leaf(2, (H + 1) // 2, (W + 1) // 2 * 2, C, dtype=dtype) for _ in range(2)]
        level = weave(*rows, leaf(2, H, W, C, dtype=dtype)).permute(0, 3, 1, 2)
        norm = torch.nn.BatchNorm2d(C).cuda()
        for training in (True, False):
            normed = batch_norm_act(level, norm.train(training), relu=True)
            crop(normed, H - 1, W - 2, torch.contiguous_format).sum().backward(retain_graph=True)


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
