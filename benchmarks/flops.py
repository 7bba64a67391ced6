"""What DinoAdapter's products alone cost beside those of its ViT-B: the least that any implementation has to compute.

    python benchmarks/flops.py      no GPU, no weights; torch 2.1 or newer, which has the counter

Counted from shapes, for one image of 266x714. Sampling, norms and sums are left out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from racdino.backbones import DinoAdapter, dinov2_vitb14  # noqa: E402


def main() -> int:
    try:
        from torch.utils.flop_counter import FlopCounterMode
    except ImportError:
        print(f"flops.py: torch {torch.__version__} has no counter of operations; run this with torch 2.1 or newer.")
        return 1
    alone = None
    for name, call in calls().items():
        with FlopCounterMode(display=False) as counter:
            call()
        found = counter.get_total_flops()
        alone = alone or found
        print(f"{name:30} {found / 1e9:6.1f} GFLOP  {found / alone:4.2f} of the ViT alone")
    return 0


def calls() -> dict[str, Callable[[], object]]:
    """What is counted, the ViT's forward pass first."""
    with torch.device("meta"):
        image = torch.empty(1, 3, 266, 714)
        vit, adapter = dinov2_vitb14().requires_grad_(False), DinoAdapter(pretrained_vit=False)
    leaf = image.detach().requires_grad_()

    def gradient_of_input() -> None:
        tokens = vit.forward_features(leaf * 1)["x_prenorm"]  # the counter takes no leaves
        torch.autograd.backward(tokens, torch.empty_like(tokens))

    def step() -> None:
        maps, _ = adapter(image)
        torch.autograd.backward(maps, [torch.empty_like(level) for level in maps])

    return {
        "ViT": torch.no_grad()(lambda: vit.forward_features(image)),
        "ViT, gradient of input": gradient_of_input,
        "DinoAdapter, forward": torch.no_grad()(lambda: adapter(image)),
        "DinoAdapter, training step": step,
    }


if __name__ == "__main__":
    sys.exit(main())
