"""DINOv2 and DinoAdapter on a GPU beside timm and transformers: 6 and 48 images of 266x714, bfloat16, random weights.

    python benchmarks/backbone.py [--only ViT-B ViT-L adapter] [--json FILE]
    python benchmarks/backbone.py --profile     where the kernel time of DinoAdapter goes, forward and training step

ViT: forward, weights in bfloat16 and frozen, ours, timm and transformers as they are and ours and timm compiled.
Adapter: ViT-B frozen, float32 weights under autocast as one trains it; forward (eval mode, no gradient) and training
step (forward, backward) beside that ViT alone; peak memory of the step with and without ``with_cp``. Times are between
CUDA events, the peers of a case in turn, median of the rounds after three discarded.
"""

from __future__ import annotations

import argparse
import gc
import re
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import gpu_results  # noqa: E402
from racdino.backbones import DinoAdapter, dinov2_vitb14, dinov2_vitl14  # noqa: E402

SIZE = (266, 714)  # 256x704, padded to whole patches
IMAGES = (6, 48)
PARTS = ("ViT-B", "ViT-L", "adapter")
_DISCARDED = 3
_ROUNDS = {6: 12, 48: 6}
_COMPILED = {"dynamic": False}

Call = Callable[[], object]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="every round is added to FILE")
    parser.add_argument("--profile", action="store_true", help="kernel time of DinoAdapter by category instead")
    options = parser.parse_args()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    rows = profile_adapter() if options.profile else measure(options.only)
    gpu_results.collect(options.json, "profile" if options.profile else "backbone", rows)
    return 0


def measure(parts: Sequence[str] = PARTS) -> Iterator[dict[str, Any]]:
    """One row per part, number of images and peer, with the milliseconds of every round; prints them as it goes."""
    for part in parts:
        for row in _adapter() if part == "adapter" else _vit(part):
            print(_line(row), flush=True)
            yield row


# ---- the transformer alone ----


def _vit(name: str) -> Iterator[dict[str, Any]]:
    peers = _vit_peers(name)
    for images in IMAGES:
        x = torch.randn(images, 3, *SIZE, device="cuda", dtype=torch.bfloat16)
        calls: dict[str, Call] = {}
        for peer, forward in peers.items():
            calls[f"{peer} eager"] = lambda forward=forward, x=x: forward(x)
            if peer != "transformers":
                compiled = torch.compile(forward, **_COMPILED)
                calls[f"{peer} compiled"] = lambda compiled=compiled, x=x: compiled(x)
        with torch.no_grad():
            times = _in_turn(calls, _ROUNDS[images])
        torch._dynamo.reset()
        for peer, measured in times.items():
            yield {"part": name, "images": images, "peer": peer, "what": "forward", "milliseconds": measured}


def _vit_peers(name: str) -> dict[str, Callable[[Tensor], object]]:
    """Forward of all tokens by each library that is installed."""
    with torch.device("cuda"):  # where initialising a large model takes no time
        peers = {"ours": _frozen(dinov2_vitb14() if name == "ViT-B" else dinov2_vitl14()).forward_features}
        try:
            import timm
        except ImportError:
            print("timm is not installed, so it is left out.")
        else:
            size = "base" if name == "ViT-B" else "large"
            model = timm.create_model(f"vit_{size}_patch14_dinov2.lvd142m", pretrained=False, img_size=SIZE)
            peers["timm"] = _frozen(model).forward_features
        try:
            from transformers import Dinov2Config, Dinov2Model
        except ImportError:
            print("transformers is not installed, so it is left out.")
        else:
            width, depth, heads = (768, 12, 12) if name == "ViT-B" else (1024, 24, 16)
            config = Dinov2Config(
                hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads, image_size=518, patch_size=14
            )
            peers["transformers"] = _frozen(Dinov2Model(config)).forward
    return peers


def _frozen(model: nn.Module) -> Any:
    return model.requires_grad_(False).eval().to("cuda", torch.bfloat16)


# ---- the adapter ----


def _adapter() -> Iterator[dict[str, Any]]:
    for images in IMAGES:
        yield from _adapter_rows(images)


def _adapter_rows(images: int) -> list[dict[str, Any]]:
    x = torch.randn(images, 3, *SIZE, device="cuda")
    model = make_adapter().train()
    peak = {}
    for with_cp in (False, True):
        set_checkpointing(model, with_cp)
        peak[with_cp] = _peak_gib(model, x)
    evaluated = make_adapter().eval()
    with torch.device("cuda"):
        vit = _frozen(dinov2_vitb14())
    half = x.bfloat16()
    leaf = half.clone().requires_grad_()

    def step(with_cp: bool) -> None:
        set_checkpointing(model, with_cp)
        training_step(model, x)

    def gradient_of_input() -> None:
        tokens = vit.forward_features(leaf)["x_prenorm"]
        torch.autograd.grad(tokens, leaf, tokens.detach())

    calls: dict[str, Call] = {
        "ViT alone": torch.no_grad()(lambda: vit.forward_features(half)),
        # What the training step of any adapter that injects before the first block contains.
        "ViT, gradient of input": gradient_of_input,
        "forward": lambda: forward(evaluated, x),
        "training step": lambda: step(False),
        "training step, with_cp": lambda: step(True),
    }
    times = _in_turn(calls, _ROUNDS[images])
    alone = statistics.median(times["ViT alone"])
    rows = []
    for what, measured in times.items():
        row = {"part": "adapter", "images": images, "peer": "ours eager", "what": what, "milliseconds": measured}
        row["of_vit_alone"] = statistics.median(measured) / alone
        if what.startswith("training step"):
            row["peak_gib"] = peak["with_cp" in what]
        rows.append(row)
    return rows


def make_adapter() -> DinoAdapter:
    """As the configs have it, with random weights, none of them zero, so that every branch has a gradient."""
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = DinoAdapter(pretrained_vit=False)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and not parameter.any():
                parameter.normal_(std=0.01)
    return model


def set_checkpointing(model: DinoAdapter, with_cp: bool) -> None:
    for interaction in model.interactions:
        interaction.with_cp = with_cp


@torch.no_grad()
def forward(model: DinoAdapter, x: Tensor) -> None:
    with torch.autocast("cuda", torch.bfloat16):
        model(x)


def training_step(model: DinoAdapter, x: Tensor) -> None:
    """Forward and backward; the maps' upstream gradients are the maps themselves."""
    model.zero_grad(set_to_none=True)
    with torch.autocast("cuda", torch.bfloat16):
        maps, _ = model(x)
    torch.autograd.backward(maps, [level.detach() for level in maps])


def _peak_gib(model: DinoAdapter, x: Tensor) -> float:
    training_step(model, x)
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    training_step(model, x)
    return torch.cuda.max_memory_allocated() / 2**30


# ---- clocks ----


def _in_turn(calls: dict[str, Call], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each call in every round after the discarded ones."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(_DISCARDED + rounds):
        for name, call in calls.items():
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            begin.record()
            call()
            end.record()
            torch.cuda.synchronize()
            times[name].append(begin.elapsed_time(end))
    return {name: measured[_DISCARDED:] for name, measured in times.items()}


def _line(row: dict[str, Any]) -> str:
    line = f"{row['part']:8} {row['images']:3} images  {row['peer']:14} {row['what']:23}"
    line += f"{statistics.median(row['milliseconds']):9.2f} ms"
    if "of_vit_alone" in row:
        line += f"  {row['of_vit_alone']:5.2f} of the ViT alone"
    if "peak_gib" in row:
        line += f"  peak {row['peak_gib']:5.1f} GiB"
    return line


# ---- where the time goes ----

# The first that is found in a kernel's name says what it is.
_CATEGORIES = (
    ("MSDA", r"ms_deform"),
    ("attention", r"flash|fmha|attention|sdpa|softmax|compute_dot_do_o|convert_dq"),
    ("norm", r"norm|BatchNorm|batchnorm|bn_fw|bn_bw|GammaBeta"),
    ("convolution", r"conv|DepthwiseConv|winograd|wgrad|dgrad|implicit|nchwToNhwc|nhwcToNchw|max_pool|MaxPool"),
    ("matmul", r"gemm|gemv|nvjet|cutlass|splitK|xmma"),
    ("copies", r"copy|Cat|Memcpy|Memset|fill|Fill|transpose|crop"),
    ("resizing", r"upsample|weave"),
    ("sums", r"reduce"),
    ("elementwise", r"elementwise|index"),
)


def profile_adapter() -> list[dict[str, Any]]:
    """Kernel milliseconds by category for every number of images, forward and training step; prints them."""
    model = make_adapter()
    rows = []
    for images in IMAGES:
        x = torch.randn(images, 3, *SIZE, device="cuda")
        for what, call in (("forward", forward), ("training step", training_step)):
            model.train(what == "training step")
            times = kernel_milliseconds(lambda call=call, x=x: call(model, x))
            rows.append({"images": images, "what": what, "milliseconds": times})
            parts = ", ".join(f"{name} {spent:.1f}" for name, spent in times.items())
            print(f"{images} images, {what}: {sum(times.values()):.1f} ms of kernels: {parts}", flush=True)
    return rows


def kernel_milliseconds(call: Call) -> dict[str, float]:
    """What one call spends in the kernels of each category, the largest first."""
    for _ in range(_DISCARDED):
        call()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        call()
        torch.cuda.synchronize()
    times: dict[str, float] = {}
    for event in recorded.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            name = next((name for name, words in _CATEGORIES if re.search(words, event.name)), "other")
            times[name] = times.get(name, 0.0) + event.time_range.elapsed_us() / 1e3
    return dict(sorted(times.items(), key=lambda part: -part[1]))


if __name__ == "__main__":
    raise SystemExit(main())
