"""Compile the op's kernels to cubins with the nvcc on PATH, list them, and check one on the GPU that is present.

    python benchmarks/cubins.py build FOLDER      one cubin per kernel file and GPU target, with its kernels counted
    python benchmarks/cubins.py check FOLDER      load those of this GPU through the driver and compare with float64

The kernels include no torch header, so what nvcc 11.8 makes here can be checked on a machine with any driver and torch.
"""

from __future__ import annotations

import argparse
import ctypes
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "racdino" / "csrc" / "cuda"
ARCHITECTURES = ("70", "75", "80", "86", "89", "90")
THREADS = 128  # kThreads of common.cuh
LEVEL_BYTES = 12  # sizeof(Level)
BY_CELL_SAMPLES = 1024  # kSamples of backward_by_cell.cu
BY_LEVEL_THREADS, BY_LEVEL_CHANNELS = 512, 8  # kBlock and kV of backward_by_level.cu
STRETCH = 32  # kStretch of launch.h


def build(folder: Path) -> None:
    """Compile every kernel file for every target; the exit status is nvcc's."""
    folder.mkdir(parents=True, exist_ok=True)
    version = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=True).stdout
    print("nvcc", version.split("release ")[1].split(",")[0])
    for source in sorted(SOURCES.glob("*.cu")):
        for architecture in ARCHITECTURES:
            cubin = folder / f"{source.stem}.sm_{architecture}.cubin"
            command = ["nvcc", "-std=c++17", "-O3", f"-arch=sm_{architecture}", "-cubin", str(source), "-o", str(cubin)]
            subprocess.run(command, check=True)
            kernels = set(re.findall(rb"\.text\.(\w+)", cubin.read_bytes()))
            print(f"{cubin.name:32} {cubin.stat().st_size:9,} bytes {len(kernels):3} kernels", flush=True)


def reference() -> Callable[..., Any]:
    """`ms_deform_attn_reference` without its package, which would load an operator compiled for this torch."""
    spec = spec_from_file_location("reference", ROOT / "racdino" / "ops" / "_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ms_deform_attn_reference


def sorted_gradient(module: Any, name: str, inputs: tuple, grad_output: Any) -> Any:
    """grad_value by the kernels of backward_sorted.cu, with torch's sort between them."""
    import torch

    from benchmarks.driver import Problem, Samples

    value, _, _, _, weights = inputs
    B, S, M, D = value.shape
    lanes, shared = (16 if value.dtype == torch.float64 else 8), 3 * LEVEL_BYTES
    cell, sample = torch.empty(2, weights.numel(), dtype=torch.int32, device="cuda")
    exact = "float64" if value.dtype == torch.float64 else "float32"
    filed = Samples(cell, sample, B * S * M)
    module.launch(f"ms_deform_attn_file_{exact}", -(-len(cell) // THREADS), THREADS, shared, Problem(inputs), filed)
    cell, order = cell.sort(stable=True)
    in_order = Samples(cell, sample[order], B * S * M)
    stretches = -(-len(cell) // STRETCH)
    ranges = torch.zeros(B * S * M, 2, dtype=torch.int32, device="cuda")
    sums = torch.empty(B * S * M + stretches, 4, D, dtype=weights.dtype, device="cuda")
    grad_value = torch.empty_like(value)
    problem = Problem(inputs, grad_output=grad_output, grad_value=grad_value)
    arguments = (
        THREADS,
        shared,
        problem,
        in_order,
        ctypes.c_void_p(ranges.data_ptr()),
        ctypes.c_void_p(sums.data_ptr()),
    )
    variant = f"{name}_v{D // lanes}_t{lanes}"
    for kernel, items in (("add_up", stretches), ("collect", B * S * M)):
        module.launch(f"ms_deform_attn_{kernel}_{variant}", -(-items // (THREADS // lanes)), *arguments)
    return grad_value


def gathered_gradient(module: Any, name: str, inputs: tuple, grad_output: Any) -> Any:
    """grad_value by the kernels of backward_gather.cu."""
    import torch

    from benchmarks.driver import Problem, Tiles

    value, shapes, _, _, weights = inputs
    B, _, M, D = value.shape
    lanes, shared = (16 if value.dtype == torch.float64 else 8), len(shapes) * (LEVEL_BYTES + 4)
    grad_value = torch.full_like(value, float("nan"))
    tiles = Tiles(weights, torch.empty_like(value, dtype=weights.dtype))
    problem = Problem(inputs, grad_output=grad_output, grad_value=grad_value)
    exact = "float64" if value.dtype == torch.float64 else "float32"
    counters = 4 * (THREADS // 32) * 4 * tiles.most
    blocks = B * M * len(shapes) * tiles.chunks
    module.launch(f"ms_deform_attn_file_by_tile_{exact}", blocks, THREADS, shared + counters, problem, tiles)
    module.launch(f"ms_deform_attn_gather_{name}_v{D // lanes}_t{lanes}", 500, THREADS, shared, problem, tiles)
    return grad_value


def gradients_by_level(module: Any, name: str, inputs: tuple, grad_output: Any, in_order: bool) -> list:
    """All three by the kernel of backward_by_level.cu, with the shared memory its Layout has."""
    import torch

    from benchmarks.driver import Problem

    value, _, _, locations, weights = inputs
    B, S, M, _ = value.shape
    _, Q, _, L, P = weights.shape
    sums = 4 * BY_LEVEL_CHANNELS * BY_LEVEL_THREADS
    parts = (LEVEL_BYTES * L, max(4 * S, sums), max(2 * (2 * Q * P + S), sums), 4 * Q * P)
    shared = sum(16 * -(-part // 16) for part in parts)
    gradients = [torch.full_like(tensor, float("nan")) for tensor in (value, locations, weights)]
    names = ("grad_value", "grad_locations", "grad_weights")
    problem = Problem(inputs, grad_output=grad_output, **dict(zip(names, gradients, strict=True)))
    module.launch(
        f"ms_deform_attn_backward_by_level_{name}",
        B * M * L,
        BY_LEVEL_THREADS,
        shared,
        problem,
        ctypes.c_bool(in_order),
    )
    return gradients


def check(folder: Path) -> None:
    """Forward, fused and backward of the loaded cubins against the reference in float64."""
    sys.path.insert(0, str(ROOT))
    import torch

    from benchmarks.driver import Cubin, Fusion, Parts, Problem

    ms_deform_attn_reference = reference()
    major, minor = torch.cuda.get_device_capability()
    files = ["forward", "forward_fused", "backward", "backward_by_cell", "backward_dots"]
    files += ["backward_sorted", "backward_gather", "backward_by_level"]
    modules = {name: Cubin(folder / f"{name}.sm_{major}{minor}.cubin") for name in files}
    variants = {torch.float64: ("float64", 2, 16), torch.float32: ("float32", 4, 8)}
    variants |= {torch.float16: ("float16", 8, 4), torch.bfloat16: ("bfloat16", 8, 4)}
    bounds = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 5e-4, torch.bfloat16: 4e-3}
    torch.manual_seed(0)
    B, M, D, Q, P = 2, 4, 32, 1000, 4
    shapes = torch.tensor([[30, 40], [15, 20], [8, 10]], device="cuda")
    starts = torch.cat([shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]])
    for dtype, (name, V, T) in variants.items():
        exact = dtype if dtype == torch.float64 else torch.float32
        value = torch.randn(B, int(shapes.prod(1).sum()), M, D, device="cuda").to(dtype)
        locations = torch.rand(B, Q, M, 3, P, 2, device="cuda", dtype=exact) * 1.2 - 0.1
        weights = torch.rand(B, Q, M, 3 * P, device="cuda", dtype=exact).softmax(-1).view(B, Q, M, 3, P)
        grad_output = torch.randn(B, Q, M * D, device="cuda").to(dtype)
        inputs = (value, shapes, starts, locations, weights)
        blocks, shared = B * M * -(-Q // (THREADS // T)), 3 * LEVEL_BYTES
        unit, heads = (1 if dtype == torch.float64 else 4), (-(-M // 2) if T == 4 else M)
        stream, words = f"v{V}_t{T}_u{unit}_s0", 16 * -(-shared // 16)
        threads = 128 if T == 4 else 256  # kStreamThreads of stream.cuh
        part = Parts(-(-Q // (threads // T // (2 if T == 4 else 1))))
        outputs = [torch.full_like(grad_output, float("nan")) for _ in range(2)]
        kernel = f"ms_deform_attn_forward_{name}_{stream}"
        modules["forward"].launch(kernel, (heads, 1, B), threads, words, Problem(inputs, output=outputs[0]), part)
        middle = torch.full((B, Q, 2), 0.5, device="cuda", dtype=exact)
        offsets = ((locations.double() - 0.5) * shapes.flip(1)[:, None]).to(exact)
        kernel = f"ms_deform_attn_fused_{name}_{str(exact)[6:]}_{stream}"
        problem, fusion = Problem(inputs, output=outputs[1]), Fusion(middle, offsets, weights.log())
        modules["forward_fused"].launch(kernel, (heads, 1, B), threads, words, problem, fusion, part)

        names = ("grad_value", "grad_locations", "grad_weights")
        launches = [("backward", f"ms_deform_attn_backward_{name}_v{V}_t{T}", blocks, ())]
        if dtype != torch.float64:
            queries = BY_CELL_SAMPLES // P
            more = (ctypes.c_int(queries),)
            blocks = B * M * 3 * -(-Q // queries)
            launches.append(("backward_by_cell", f"ms_deform_attn_backward_by_cell_{name}_t8", blocks, more))
        results = [*outputs, sorted_gradient(modules["backward_sorted"], name, inputs, grad_output)]
        results.append(gathered_gradient(modules["backward_gather"], name, inputs, grad_output))
        whats = ["output", "fused", "sorted", "gathered"]
        if dtype != torch.float64:
            gradients = [torch.full_like(tensor, float("nan")) for tensor in (locations, weights)]
            problem = Problem(inputs, grad_output=grad_output, **dict(zip(names[1:], gradients, strict=True)))
            kernel = f"ms_deform_attn_dots_{name}_v{V}_t{T}_s0"
            modules["backward_dots"].launch(kernel, (heads, 1, B), threads, words, problem, part)
            results += gradients
            whats += names[1:]
        if value.element_size() == 2:
            for in_order in (False, True):
                results += gradients_by_level(modules["backward_by_level"], name, inputs, grad_output, in_order)
                whats += names
        for file, kernel, blocks, more in launches:
            gradients = [torch.zeros_like(value, dtype=exact), torch.ones_like(locations), torch.ones_like(weights)]
            problem = Problem(inputs, grad_output=grad_output, **dict(zip(names, gradients, strict=True)))
            modules[file].launch(kernel, blocks, THREADS, shared, problem, *more)
            results += gradients
            whats += names
        torch.cuda.synchronize()

        leaves = [tensor.double().requires_grad_() for tensor in (value, locations, weights)]
        output = ms_deform_attn_reference(leaves[0], shapes, starts, leaves[1], leaves[2])
        expected_gradients = torch.autograd.grad(output, leaves, grad_output.double())
        output = output.detach()
        right = dict(zip(names, expected_gradients, strict=True))
        right |= {"output": output, "fused": output, "sorted": right["grad_value"], "gathered": right["grad_value"]}
        errors = [
            float((actual.double() - right[what]).norm() / right[what].norm())
            for actual, what in zip(results, whats, strict=True)
        ]
        print(f"{name:9}", " ".join(f"{what} {error:.1e}" for what, error in zip(whats, errors, strict=True)))
        if not max(errors) < bounds[dtype]:
            sys.exit(f"the cubins compute something else in {name}")
    print(f"the cubins for sm_{major}{minor} in {folder} agree with float64 on {torch.cuda.get_device_name()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["build", "check"])
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    (build if arguments.verb == "build" else check)(arguments.folder)
