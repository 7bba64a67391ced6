"""Time and memory of multi-scale deformable attention beside its peers, measured in the same run.

    python benchmarks/msda.py           on a CPU: beside mmcv's multi_scale_deformable_attn_pytorch, 2 threads, float32
    python benchmarks/msda.py --cuda    on a GPU: beside the original mapping (one thread per channel), grid_sample,
                                        deformops; the fused operator beside softmax, locations and the plain one
    python benchmarks/msda.py --cuda --cases ddetr_b1 inj_b6 --spreads far --only ours --json FILE

CPU times are medians over interleaved calls, forward without a graph and forward with backward through autograd.
Memory is what one forward and backward adds to the peak resident size of a fresh process that already holds the inputs
(Linux's VmHWM, reset just before). GPU times: a CUDA graph of 10 calls (4 above 0.3 ms, 1 above 2 ms) replayed in turn
with those of the peers, median of 25 rounds after 3 discarded; the raw operators, with zero-fills and casts of the
results but without autograd; "fused" and "composed" through autograd, as a module calls them, without the gradient of
the reference points. deformops (`pip install --no-deps --target FOLDER deformops`, FOLDER on PYTHONPATH; Python 3.12,
torch 2.11) gets its weights in the dtype of the values, its tables in 32 bits, and chooses its kernel itself.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import gpu_results  # noqa: E402
from benchmarks.deformops_peer import load_deformops  # noqa: E402
from racdino.ops import ms_deform_attn, ms_deform_attn_fused  # noqa: E402

DTYPES = ["float32", "float16", "bfloat16"]
SPREADS = ["near", "far"]
PEERS = ["ours", "ours, deterministic", "one thread per channel", "grid_sample", "deformops", "fused", "composed"]

ADAPTER = ((32, 88), (16, 44), (8, 22))  # /8, /16 and /32 of a 704 x 256 image
DETR = ((100, 167), (50, 84), (25, 42), (13, 21))  # /8 to /64 of 800 x 1333


class Case(NamedTuple):
    """Sizes of one use; D is 32 and P is 4 in all of them."""

    title: str
    batch: int
    heads: int
    levels: tuple[tuple[int, int], ...]
    query_levels: tuple[tuple[int, int], ...]


MASK2FORMER = ((128, 128), (64, 64), (32, 32))  # /8, /16 and /32 of 1024 x 1024

CASES = {
    "injector": Case("ViT-B injector B6", 6, 12, ADAPTER, ADAPTER[1:2]),
    "extractor": Case("ViT-B extractor B6", 6, 12, ADAPTER[1:2], ADAPTER),
    "encoder": Case("Deformable-DETR encoder 800x1333 B1", 1, 8, DETR, DETR),
}
CUDA_CASES = {
    "ddetr_b1": CASES["encoder"],
    "ddetr_b2": Case("Deformable-DETR encoder 800x1333 B2", 2, 8, DETR, DETR),
    "inj_b6": CASES["injector"],
    "inj_b48": Case("ViT-B injector B48", 48, 12, ADAPTER, ADAPTER[1:2]),
    "ext_b6": CASES["extractor"],
    "ext_b48": Case("ViT-B extractor B48", 48, 12, ADAPTER[1:2], ADAPTER),
    "m2f_b1": Case("Mask2Former pixel decoder 1024x1024 B1", 1, 8, MASK2FORMER, MASK2FORMER),
}


def query_centres(case: Case) -> Tensor:
    """(Q, 2): where each query lies in the image, as (x, y) in [0, 1]."""
    return torch.cat(
        [
            torch.cartesian_prod((torch.arange(H) + 0.5) / H, (torch.arange(W) + 0.5) / W).flip(1)
            for H, W in case.query_levels
        ]
    )


def make_inputs(case: Case, device: str, spread: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """The op's five inputs. ``near``: samples N(0, 2 pixels) around each query's own place; ``far``: uniform."""
    generator = torch.Generator().manual_seed(0)
    shapes = torch.tensor(case.levels)
    starts = torch.cat([shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]])
    centres = query_centres(case)
    lead = (case.batch, len(centres), case.heads, len(shapes), 4)
    if spread == "near":
        noise = torch.randn(*lead, 2, generator=generator) * 2 / shapes.flip(1).view(1, 1, 1, -1, 1, 2)
        locations = centres.view(1, -1, 1, 1, 1, 2) + noise
    else:
        locations = torch.rand(*lead, 2, generator=generator)
    weights = torch.randn(*lead, generator=generator).flatten(-2).softmax(-1).view(lead)
    value = torch.randn(case.batch, int(shapes.prod(1).sum()), case.heads, 32, generator=generator)
    return tuple(tensor.to(device) for tensor in (value.to(dtype), shapes, starts, locations, weights))


def fused_inputs(case: Case, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The same samples as a module's linear layers would give them, in the dtype of the values."""
    value, shapes, starts, locations, weights = inputs
    reference = query_centres(case).to(value.device).view(1, -1, 1, 2)
    offsets = (locations - reference[:, :, None, :, None]) * shapes.flip(1)[:, None]
    return value, shapes, starts, reference, offsets.to(value.dtype), weights.log().to(value.dtype)


def ours(value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    return ms_deform_attn(value, shapes, starts, locations, weights)


def mmcv_peer(value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    return multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)


def with_gradients(function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    value, shapes, starts, locations, weights = inputs
    leaves = [tensor.detach().requires_grad_() for tensor in (value, locations, weights)]
    output = function(leaves[0], shapes, starts, leaves[1], leaves[2])
    return torch.autograd.grad(output, leaves, torch.ones_like(output))


# ---- CPU ----


def peak_bytes(key: str, function: str) -> int:
    """What one forward and backward adds to the peak resident size, in a process of its own."""
    command = [sys.executable, __file__, "--peak-of", key, function]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(result.stdout.split()[-1])


def print_peak(key: str, function: str) -> None:
    def status(field: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))

    inputs = make_inputs(CASES[key], "cpu", "near")
    small = Case("", 1, 2, ((4, 4),), ((4, 4),))
    with_gradients(FUNCTIONS[function], make_inputs(small, "cpu", "near"))  # threads and libraries are there before
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to VmRSS
    before = status("VmRSS")
    with_gradients(FUNCTIONS[function], inputs)
    print(status("VmHWM") - before)


FUNCTIONS = {"ours": ours, "mmcv": mmcv_peer}


def median_times(inputs: tuple[Tensor, ...], gradients: bool, rounds: int) -> dict[str, float]:
    """Median milliseconds of each function, called in turn."""
    times: dict[str, list[float]] = {name: [] for name in FUNCTIONS}
    for _ in range(rounds + 1):
        for name, function in FUNCTIONS.items():
            start = time.perf_counter()
            if gradients:
                with_gradients(function, inputs)
            else:
                with torch.no_grad():
                    function(*inputs)
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(measured[1:]) for name, measured in times.items()}


def cpu_table(rounds: int) -> None:
    torch.set_num_threads(2)
    print(f"CPU, float32, 2 threads, torch {torch.__version__}: ours vs mmcv, median of {rounds} calls")
    heads = (
        f"{'forward, ms':>22} {'x':>6}",
        f"{'forward+backward, ms':>22} {'x':>6}",
        f"{'peak memory, MB':>18} {'x':>6}",
    )
    print(f"{'case':36} {'spread':6}", *heads)
    for key, case in CASES.items():
        memory = [peak_bytes(key, name) / 1e6 for name in FUNCTIONS]
        for spread in ("near", "far"):
            inputs = make_inputs(case, "cpu", spread)
            torch.testing.assert_close(ours(*inputs), mmcv_peer(*inputs), rtol=1e-3, atol=1e-4)
            pairs = [median_times(inputs, gradients, rounds).values() for gradients in (False, True)]
            columns = [f"{mine:9.1f} vs {peer:9.1f} {peer / mine:6.1f}" for mine, peer in pairs]
            if spread == "near":
                columns.append(f"{memory[0]:7.0f} vs {memory[1]:7.0f} {memory[1] / memory[0]:6.1f}")
            print(f"{case.title:36} {spread:6}", *columns, flush=True)


# ---- CUDA ----


def grid_sample_peer(value: Tensor, shapes: list, locations: Tensor, weights: Tensor) -> Tensor:
    """The field's fall-back: one grid_sample per level, then a weighted sum."""
    B, _, M, D = value.shape
    Q, P = locations.shape[1], locations.shape[4]
    grids = (2 * locations - 1).to(value.dtype).transpose(1, 2).flatten(0, 1)  # (B*M, Q, L, P, 2)
    sampled, start = [], 0
    for level, (H, W) in enumerate(shapes):
        image = value[:, start : start + H * W].permute(0, 2, 3, 1).reshape(B * M, D, H, W)
        sampled.append(F.grid_sample(image, grids[:, :, level], mode="bilinear", align_corners=False))
        start += H * W
    scale = weights.to(value.dtype).transpose(1, 2).reshape(B * M, 1, Q, len(shapes) * P)
    return (torch.cat(sampled, -1) * scale).sum(-1).view(B, M * D, Q).transpose(1, 2)


class Captured:
    """``call`` as a CUDA graph of enough repetitions for the clock."""

    def __init__(self, call: Callable[[], object]) -> None:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):
                call()
        torch.cuda.synchronize()
        self.calls, self.graph = 1, self._capture(call, 1)
        once = statistics.median(self.microseconds() for _ in range(3))
        if once < 2000:
            self.calls = 10 if once < 300 else 4
            self.graph = self._capture(call, self.calls)

    @staticmethod
    def _capture(call: Callable[[], object], calls: int) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(calls):
                call()
        return graph

    def microseconds(self) -> float:
        """One replay, per call."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        self.graph.replay()
        end.record()
        torch.cuda.synchronize()
        return 1e3 * start.elapsed_time(end) / self.calls


def round_robin(peers: dict[str, Captured], rounds: int = 25) -> dict[str, list[float]]:
    """Microseconds of one call of each peer in every round after the first three."""
    times: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(rounds + 3):
        for name, peer in peers.items():
            times[name].append(peer.microseconds())
    return {name: measured[3:] for name, measured in times.items()}


def original_mapping() -> Callable[..., Callable[[], None]]:
    """Compile the comparison kernels with nvcc; the result turns inputs into a forward or forward+backward call."""
    from benchmarks.driver import Cubin, Problem

    major, minor = torch.cuda.get_device_capability()
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "peer.cubin"
        source = ROOT / "benchmarks" / "one_thread_per_channel.cu"
        subprocess.run(["nvcc", "-O3", f"-arch=sm_{major}{minor}", "-cubin", str(source), "-o", str(cubin)], check=True)
        module = Cubin(cubin)

    def prepare(inputs: tuple[Tensor, ...], grad_output: Tensor, backward: bool, cast: bool) -> Callable[[], None]:
        value, shapes, starts, locations, weights = inputs
        B, _, M, D = value.shape
        rows = B * locations.shape[1] * M

        def call() -> None:
            wide = value.float() if cast else value
            arguments = (wide, shapes, starts, locations, weights)
            output = torch.zeros(B, locations.shape[1], M * D, device=value.device)
            threads = 1024
            module.launch(
                "forward_one_thread_per_channel", -(-rows * D // threads), threads, 0, Problem(arguments, output=output)
            )
            if cast:
                output.to(value.dtype)
            if not backward:
                return
            gradients = [torch.zeros_like(tensor) for tensor in (wide, locations, weights)]
            names = ("grad_value", "grad_locations", "grad_weights")
            problem = Problem(arguments, grad_output=grad_output.float(), **dict(zip(names, gradients, strict=True)))
            module.launch("backward_one_thread_per_channel", rows, D, 0, problem)
            if cast:
                gradients[0].to(value.dtype)

        return call

    return prepare


def composed(
    value: Tensor, shapes: Tensor, starts: Tensor, reference: Tensor, offsets: Tensor, logits: Tensor
) -> Tensor:
    """What a module computes around the plain operator, softmax in float32 as under autocast."""
    weights = logits.flatten(3).softmax(-1, dtype=torch.float32).view(logits.shape)
    locations = reference[:, :, None, :, None] + offsets / shapes.flip(1)[:, None]
    return ms_deform_attn(value, shapes, starts, locations, weights)


def through_autograd(
    function: Callable[..., Tensor], arguments: tuple[Tensor, ...], grad_output: Tensor, backward: bool
) -> Callable[[], None]:
    """A call of ``function``, with the gradients of all its arguments if asked."""

    def call() -> None:
        if not backward:
            function(*arguments)
            return
        with torch.enable_grad():
            leaves = [tensor.detach().requires_grad_() for tensor in arguments]
            torch.autograd.grad(function(*leaves), leaves, grad_output)

    return call


def cuda_calls(
    inputs: tuple[Tensor, ...], case: Case, prepare: Callable, deformops: Callable | None, backward: bool
) -> Iterable[tuple[str, Callable]]:
    value, shapes, starts, locations, weights = inputs
    B, _, M, D = value.shape
    grad_output = torch.randn(B, locations.shape[1], M * D, device="cuda").to(value.dtype)
    op, op_backward = torch.ops.racdino.ms_deform_attn_forward, torch.ops.racdino.ms_deform_attn_backward

    def call() -> None:
        op(*inputs, 64)
        if backward:
            op_backward(*inputs, grad_output, 64, [True] * 3)

    def sorted_call() -> None:
        torch.use_deterministic_algorithms(True)
        call()
        torch.use_deterministic_algorithms(False)

    def autograd(function: Callable[..., Tensor], *arguments: Tensor) -> Callable[[], None]:
        return through_autograd(function, arguments, grad_output, backward)

    yield "ours", call
    if backward:
        yield "ours, deterministic", sorted_call
    yield "one thread per channel", prepare(inputs, grad_output, backward, value.dtype != torch.float32)
    yield "grid_sample", autograd(lambda v, *at: grid_sample_peer(v, case.levels, *at), value, locations, weights)
    if deformops is not None:
        tables, narrow = (shapes.int(), starts.int()), weights.to(value.dtype)
        yield "deformops", autograd(lambda v, *at: deformops(v, *tables, *at), value, locations, narrow)
    _, _, _, reference, offsets, logits = fused_inputs(case, inputs)
    for name, function in (("fused", ms_deform_attn_fused), ("composed", composed)):

        def from_logits(v: Tensor, *at: Tensor, function: Callable[..., Tensor] = function) -> Tensor:
            return function(v, shapes, starts, reference, *at)

        yield name, autograd(from_logits, value, offsets, logits)


def measure(
    keys: Iterable[str] = tuple(CUDA_CASES),
    dtypes: Iterable[str] = tuple(DTYPES),
    spreads: Iterable[str] = tuple(SPREADS),
    only: Iterable[str] = tuple(PEERS),
) -> Iterator[dict]:
    """One row per case, spread, dtype and direction: every round of every peer in `only`, in us; prints medians."""
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; us per call (median of 25 rounds), D 32, P 4")
    print("16-bit values keep float32 locations; one thread per channel pays casts to float32, as under ViT-Adapter;")
    print("fused and composed start from offsets and logits in the dtype of the values")
    prepare = original_mapping() if "one thread per channel" in only else lambda *_: None
    deformops = load_deformops() if "deformops" in only else None
    for key, spread in itertools.product(keys, spreads):
        exact = make_inputs(CUDA_CASES[key], "cuda", spread)
        for name, backward in itertools.product(dtypes, (False, True)):
            inputs = (exact[0].to(getattr(torch, name)), *exact[1:])
            with torch.no_grad():
                calls = dict(cuda_calls(inputs, CUDA_CASES[key], prepare, deformops, backward))
                times = round_robin({peer: Captured(call) for peer, call in calls.items() if peer in only})
            what = "forward+backward" if backward else "forward"
            row = {"case": key, "spread": spread, "dtype": name, "what": what, "microseconds": times}
            print_row(row)
            yield row


def medians(row: dict) -> dict[str, float]:
    return {peer: statistics.median(measured) for peer, measured in row["microseconds"].items()}


def print_row(row: dict) -> None:
    """Each median, and in brackets how many times ours; for what is composed, how many times the fused one."""
    times = medians(row)
    base = {"fused": "fused", "composed": "fused"}
    columns = (f"{peer} {t:8.1f} ({t / times[base.get(peer, next(iter(times)))]:5.2f})" for peer, t in times.items())
    print(f"{row['dtype']:9} {row['case']:9} {row['spread']:4} {row['what']:17}", *columns, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuda", action="store_true", help="the GPU table (needs nvcc for the comparison kernels)")
    parser.add_argument("--cases", nargs="+", choices=CUDA_CASES, default=list(CUDA_CASES), help="with --cuda")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES, help="with --cuda")
    parser.add_argument("--spreads", nargs="+", choices=SPREADS, default=SPREADS, help="with --cuda; far: uniform")
    parser.add_argument("--only", nargs="+", choices=PEERS, default=PEERS, help="with --cuda: what to time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="with --cuda: every round is added to FILE")
    parser.add_argument("--rounds", type=int, default=5, help="timed CPU calls of each function (default 5)")
    parser.add_argument("--peak-of", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak_of:
        print_peak(*arguments.peak_of)
    elif arguments.cuda:
        rows = measure(arguments.cases, arguments.dtypes, arguments.spreads, arguments.only)
        gpu_results.collect(arguments.json, "msda", rows)
    else:
        cpu_table(arguments.rounds)
