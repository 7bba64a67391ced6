"""Results of the shape that benchmarks/gpu.py writes, with figures that no machine gave."""

from __future__ import annotations

from typing import Any

from benchmarks.msda import CUDA_CASES

CARD = {"card": "a card that does not exist", "torch": "0.0", "cuda": "0"}


def made_up() -> dict[str, Any]:
    return {**CARD, "peers": {}, "msda": msda_rows(), "backbone": backbone_rows(), "training": training_rows()}


def msda_rows() -> list[dict[str, Any]]:
    """Forward 10 us and forward + backward 30 us, the peers slower by round factors."""
    factors = {"ours": 1, "one thread per channel": 4, "grid_sample": 20, "deformops": 2}
    rows = []
    for place, case in enumerate(CUDA_CASES):
        for dtype in ("float32", "float16"):
            for what, base in (("forward", 10.0), ("forward+backward", 30.0)):
                times = {peer: [base * factor * (1 + place / 10)] * 3 for peer, factor in factors.items()}
                rows.append({"case": case, "spread": "near", "dtype": dtype, "what": what, "microseconds": times})
    return rows


def backbone_rows() -> list[dict[str, Any]]:
    rows = []
    for part, size in (("ViT-B", 1.0), ("ViT-L", 3.0)):
        for images in (6, 48):
            for peer, factor in (
                ("ours eager", 1.2),
                ("ours compiled", 1.0),
                ("timm eager", 1.3),
                ("timm compiled", 1.1),
                ("transformers eager", 1.5),
            ):
                times = [size * images * factor / 2] * 3
                rows.append({"part": part, "images": images, "peer": peer, "what": "forward", "milliseconds": times})
    for images in (6, 48):
        for what, factor in (("forward", 3.0), ("training step", 9.0), ("training step, with_cp", 11.0)):
            row = {"part": "adapter", "images": images, "peer": "ours eager", "what": what}
            rows.append({**row, "milliseconds": [images * factor / 2], "of_vit_alone": factor, "peak_gib": 40 / factor})
    return rows


def training_rows() -> list[dict[str, Any]]:
    parts = {"adapter": 40.0, "backbone": 20.0, "view sampling": 10.0, "losses": 5.0, "optimiser": 3.0, "rest": 2.0}
    return [
        {
            "samples": samples,
            "structure": structure,
            "adapter_with_cp": False,
            "milliseconds": 480.0 * slower,
            "images_per_s": 100.0 * samples / slower,
            "peak_gib": 20.0 * samples,
            "parts_ms": {name: 6 * samples * slower * spent for name, spent in parts.items()},
        }
        for samples in (1, 2)
        for structure, slower in (("ours", 1.0), ("plain", 1.25))
    ]
