"""DINOv2 ViT-B and its adapter on six images: a forward pass for features, one forward and backward as in training."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from racdino.backbones import DinoAdapter
from racdino.verify.errors import VerifyError
from racdino.weights.catalogue import published
from racdino.weights.search import find_or_none

SEED = 0
NAMES = ("f1", "f2", "f3", "f4", "ViT map")
WEIGHTS = "dinov2_vitb14"


@dataclass(frozen=True)
class Model:
    """The model and where its numbers come from; ``random`` is True where DINOv2's weights are not on this machine."""

    adapter: DinoAdapter
    device: torch.device
    weights: str
    random: bool


@dataclass(frozen=True)
class Forward:
    """Features on the CPU (f1 to f4 and the ViT map, all (6, 768, h, w)) and how long they took."""

    features: tuple[Tensor, ...]
    seconds: float


def build() -> Model:
    """ViT-B with DINOv2's weights where they are found; otherwise a seeded random initialisation, and named so."""
    found = find_or_none(published(WEIGHTS))
    torch.manual_seed(SEED)
    adapter = DinoAdapter(pretrained_vit=found is not None, with_cp=True)  # halves the memory of `backward`: 6 GiB
    if found is None:
        weights = f"random initialisation (seed {SEED}), no DINOv2 weights: features and their colours mean nothing"
    else:
        weights = f"DINOv2 weights {found.name}; the adapter is a random initialisation (seed {SEED})"
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Model(adapter.to(device), device, weights, random=found is None)


def forward(model: Model, images: Tensor) -> Forward:
    """Features of (6, 3, H, W) images in eval mode.

    Raises:
        VerifyError: a map has a wrong size or a value that is not finite.
    """
    adapter = model.adapter.eval()
    images = images.to(model.device)
    with torch.no_grad():
        if model.device.type == "cuda":
            adapter(images)  # cuDNN chooses and kernels load in the first call
        start = _now(model.device)
        maps, vit_map = adapter(images)
        seconds = _now(model.device) - start
    features = tuple(x.float().cpu() for x in (*maps, vit_map))
    _check(features, *images.shape[-2:])
    return Forward(features, seconds)


def backward(model: Model, images: Tensor) -> tuple[float, int]:
    """One training step's forward and backward; returns its seconds and the number of parameters with a gradient.

    Raises:
        VerifyError: a trainable parameter got no gradient, or one that is not finite.
    """
    adapter = model.adapter.train()
    images = images.to(model.device)
    start = _now(model.device)
    maps, vit_map = adapter(images)
    generator = torch.Generator().manual_seed(SEED)
    # against fixed noise: the mean square of a batch-normalised map is constant and would test nothing
    loss = sum((x * torch.randn(x.shape, generator=generator).to(x)).mean() for x in (*maps, vit_map))
    assert isinstance(loss, Tensor)
    loss.backward()
    seconds = _now(model.device) - start
    trainable = {name: p for name, p in adapter.named_parameters() if p.requires_grad}
    bad = [name for name, p in trainable.items() if p.grad is None or not bool(torch.isfinite(p.grad).all())]
    adapter.zero_grad(set_to_none=True)
    if bad:
        raise VerifyError(f"{len(bad)} of {len(trainable)} parameters got no finite gradient, among them {bad[0]}.")
    return seconds, len(trainable)


def peak_memory(device: torch.device) -> int:
    """Bytes: the GPU's peak of this process, or the process's own on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _check(features: tuple[Tensor, ...], height: int, width: int) -> None:
    for name, divisor, feature in zip(NAMES, (4, 8, 16, 32, 14), features, strict=True):
        expected = (height // divisor, width // divisor)
        if tuple(feature.shape[-2:]) != expected:
            raise VerifyError(
                f"{name} is {tuple(feature.shape[-2:])}, expected {expected} for {height}x{width} images."
            )
        if not bool(torch.isfinite(feature).all()):
            raise VerifyError(f"{name} holds values that are not finite.")


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
