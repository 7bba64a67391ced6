"""The training step of RaCFormer R50 + DINOv2 ViT-B (8 frames, 704x256) beside the plain structure of its description.

    python benchmarks/training.py [--batch 1 2] [--only ours plain] [--json FILE]

Synthetic samples, random weights, image branch in bfloat16, AdamW. Per structure: images/s (8 frames of 6 cameras
each), peak memory, where the time goes, and the losses of the first step in float32 and bfloat16. Needs a GPU.
"""

from __future__ import annotations

import argparse
import gc
import math
import runpy
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from training_parts import REST, TimeLine  # noqa: E402
from training_reference import make_plain  # noqa: E402

from benchmarks import gpu_results  # noqa: E402
from racdino.detector import Batch, build  # noqa: E402

FRAMES, CAMERAS, SIZE = 8, 6, (256, 704)
BATCHES = (1, 2)
STRUCTURES = ("ours", "plain")
_OBJECTS, _RADAR_POINTS = 30, 1200  # per sample; per sample and frame
_WARM_UP, _STEPS = 3, 8
_CLIP = 35.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--only", nargs="+", choices=STRUCTURES, default=STRUCTURES)
    parser.add_argument("--json", type=Path, metavar="FILE", help="the rows are added to FILE")
    options = parser.parse_args()
    gpu_results.collect(options.json, "training", measure(options.batch, options.only))
    return 0


def measure(batches: Sequence[int] = BATCHES, structures: Sequence[str] = STRUCTURES) -> Iterator[dict[str, Any]]:
    """One row per batch size and structure; prints them as it goes."""
    for samples in batches:
        of = {}
        for structure in structures:
            row = {"samples": samples, "structure": structure, **_measure_what_fits(samples, structure)}
            print(_line(row), flush=True)
            of[structure] = row
            yield row
        if len(of) == 2:
            print(_comparison(of["ours"], of["plain"]), flush=True)


def _measure_what_fits(samples: int, structure: str) -> dict[str, Any]:
    """As the config has it or, where that is too much for the GPU, with the adapter's activations computed again."""
    try:
        return _measure(samples, structure, with_cp=False)
    except torch.cuda.OutOfMemoryError:
        gc.collect()
        torch.cuda.empty_cache()
    return _measure(samples, structure, with_cp=True)


def _measure(samples: int, structure: str, with_cp: bool) -> dict[str, Any]:
    batch = make_batch(samples).to("cuda")
    row: dict[str, Any] = {"adapter_with_cp": with_cp}
    for name, precision in (("float32", None), ("bfloat16", torch.bfloat16)):
        model = make_model(structure, precision, with_cp)
        row[f"losses_{name}"] = _first_losses(model, batch)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, 1e-6, weight_decay=0.01)
    gc.collect()
    torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(_WARM_UP + _STEPS):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        _step(model, batch, optimiser, trained)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    row["milliseconds"] = 1e3 * statistics.median(times[_WARM_UP:])
    row["images_per_s"] = samples * FRAMES * CAMERAS * 1e3 / row["milliseconds"]
    row["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    row["parts_ms"] = _parts(model, batch, optimiser, trained)
    return row


def _first_losses(model: nn.Module, batch: Batch) -> dict[str, float]:
    """Convolutions without TF32, so that float32 is what it says."""
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        return {name: float(loss) for name, loss in model.loss(batch).items()}


def _step(model: Any, batch: Batch, optimiser: torch.optim.Optimizer, trained: list[nn.Parameter]) -> None:
    loss = sum(model.loss(batch).values())
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, _CLIP)
    optimiser.step()


def _parts(model: Any, batch: Batch, optimiser: Any, trained: list[nn.Parameter]) -> dict[str, float]:
    """Milliseconds of one step by part, the mean of three."""
    line = TimeLine()
    head = model.pts_bbox_head
    layer = head.transformer.decoder["decoder_layer"]
    for owner, method, name in (
        (model.preprocess, "forward", "preprocessing"),
        (model.img_backbone, "forward", "backbone"),
        (model.dinov2_adapter, "forward", "adapter"),
        (model.adapter_fusion, "forward", "fusion and necks"),
        (model.img_neck, "forward", "fusion and necks"),
        (model.img_lss_neck, "forward", "fusion and necks"),
        (model.img_lss_view_transformer, "forward", "view transform"),
        (model, "_radar_bev", "radar encoder"),
        (head, "queries", "queries"),
        (layer.sampling_radar_bev.temporal_encoder, "forward", "temporal encoder"),
        (layer.self_attn, "forward", "self attention"),
        (layer.sampling, "forward", "view sampling"),
        (layer.sampling_radar_bev, "forward", "BEV sampling"),
        (layer.sampling_lss_bev, "forward", "BEV sampling"),
        (layer.mixing, "forward", "mixing"),
        (layer.ffn, "forward", "feed-forward"),
        (head, "loss", "losses"),
        (model.img_lss_view_transformer, "depth_loss", "losses"),
        (optimiser, "step", "optimiser"),
    ):
        line.watch(owner, method, name)
    totals: dict[str, float] = {}
    for _ in range(3):
        line.mark(REST)
        _step(model, batch, optimiser, trained)
        line.mark(REST)
        for name, milliseconds in line.milliseconds().items():
            totals[name] = totals.get(name, 0.0) + milliseconds / 3
    return dict(sorted(totals.items(), key=lambda part: -part[1]))


def make_model(structure: str, precision: torch.dtype | None, with_cp: bool = False) -> Any:
    """The config's model with random weights, the same for both structures, none of them zero."""
    base = runpy.run_path(str(ROOT / "configs" / "racformer_r50_nuimg_704x256_f8.py"))["model"]
    changes = runpy.run_path(str(ROOT / "configs" / "racformer_r50_nuimg_704x256_f8_with_dinov2_fixed.py"))["model"]
    torch.manual_seed(0)
    adapter = {**changes["dinov2_adapter"], "pretrained_vit": False, "with_cp": with_cp}
    model = build({**base, **changes, "dinov2_adapter": adapter})
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1 and not parameter.any():
                parameter.normal_(std=0.01)
    model = model.cuda().train()
    model.image_precision = precision
    return make_plain(model) if structure == "plain" else model


def make_batch(samples: int) -> Batch:
    """Random images, maps and points; cameras in a ring; objects within 50 m."""
    random = torch.Generator().manual_seed(0)
    images = FRAMES * CAMERAS

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=random)

    def sparse(*shape: int, density: float) -> Tensor:
        return (uniform(*shape) < density) * (1 + 60 * uniform(*shape))

    def boxes() -> Tensor:
        low = torch.tensor([-50.0, -50.0, -2.0, 0.5, 0.5, 1.0, -math.pi, -5.0, -5.0])
        high = torch.tensor([50.0, 50.0, 0.0, 6.0, 3.0, 3.0, math.pi, 5.0, 5.0])
        return low + (high - low) * uniform(_OBJECTS, 9)

    def points() -> Tensor:
        low = torch.tensor([-50.0, -50.0, 0.0, -10.0, -5.0, -5.0, 0.0])
        high = torch.tensor([50.0, 50.0, 0.0, 30.0, 5.0, 5.0, 0.4])
        return low + (high - low) * uniform(_RADAR_POINTS, 7)

    return Batch(
        img=torch.randint(0, 256, (samples, images, 3, *SIZE), generator=random, dtype=torch.uint8),
        lidar2img=ring_of_cameras().repeat(samples, FRAMES, 1, 1),
        img_timestamp=(-0.5 * torch.arange(FRAMES).repeat_interleave(CAMERAS).double()).repeat(samples, 1) + 1.5e9,
        radar_points=[[points() for _ in range(FRAMES)] for _ in range(samples)],
        radar_depth=sparse(samples, images, *SIZE, density=0.01),
        radar_rcs=30 * uniform(samples, images, *SIZE) - 10,
        gt_depth=sparse(samples, CAMERAS, *SIZE, density=0.05),
        gt_boxes=[boxes() for _ in range(samples)],
        gt_labels=[torch.randint(0, 10, (_OBJECTS,), generator=random) for _ in range(samples)],
        sample_keys=tuple(range(samples)),
    )


def ring_of_cameras() -> Tensor:
    """(6, 4, 4) lidar2img: 1.5 m up, 70 degrees wide, every 60 degrees."""
    height, width = SIZE
    focal = width / 2 / math.tan(math.radians(35))
    matrices = []
    for camera in range(CAMERAS):
        angle = math.radians(90 - 60 * camera)
        rotation = torch.tensor(
            [
                (math.sin(angle), -math.cos(angle), 0.0),
                (0.0, 0.0, -1.0),
                (math.cos(angle), math.sin(angle), 0.0),
            ]
        )
        extrinsic, intrinsic = torch.eye(4), torch.eye(4)
        extrinsic[:3, :3], extrinsic[:3, 3] = rotation, rotation @ torch.tensor([0.0, 0.0, -1.5])
        intrinsic[:2, :3] = torch.tensor([(focal, 0, width / 2), (0, focal, height / 2)])
        matrices.append(intrinsic @ extrinsic)
    return torch.stack(matrices)


def _line(row: dict[str, Any]) -> str:
    total = sum(row["parts_ms"].values())
    parts = ", ".join(f"{name} {100 * time / total:.0f} %" for name, time in row["parts_ms"].items())
    recomputed = ", adapter with_cp" if row["adapter_with_cp"] else ""
    return (
        f"batch {row['samples']}, {row['structure']}: {row['images_per_s']:.0f} images/s "
        f"({row['milliseconds']:.0f} ms), peak {row['peak_gib']:.1f} GiB{recomputed}\n    {parts}"
    )


def _comparison(ours: dict[str, Any], plain: dict[str, Any]) -> str:
    lines = [f"batch {ours['samples']}: ours / plain = {ours['images_per_s'] / plain['images_per_s']:.2f} in images/s"]
    for dtype in ("float32", "bfloat16"):
        pairs = [(ours[f"losses_{dtype}"][name], value) for name, value in plain[f"losses_{dtype}"].items()]
        worst = max(abs(mine - theirs) / max(abs(theirs), 1e-6) for mine, theirs in pairs)
        totals = [sum(values) for values in zip(*pairs, strict=True)]
        lines.append(f"    losses in {dtype}: {totals[0]:.5f} and {totals[1]:.5f}, worst term off by {worst:.1e}")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
