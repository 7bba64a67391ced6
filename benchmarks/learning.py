"""Does it learn, and does radar help: the same training with radar and with radar taken away, side by side.

    python benchmarks/learning.py [CONFIG] [--work-dir DIR] [--iterations N] [--set KEY=VALUE ...]

Packs the samples of data.train and data.test as a test sees them (no augmentation), trains twice from the same start,
and prints the official metrics of both runs on both splits. Default: the demo's config, on the demo's data.
Training needs torch alone, so each stage can run on its own (--stage): pack where mmdet3d is, train where a GPU is.
"""

from __future__ import annotations

import argparse
import json
import math
import runpy
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from learning_samples import Samples  # noqa: E402

STAGES = ("pack", "train", "evaluate")
RUNS = {"radar": True, "no radar": False}
SPLITS = ("train", "test")
_WARM_UP = 50  # iterations


def main() -> int:
    options = _parser().parse_args()
    options.work_dir.mkdir(parents=True, exist_ok=True)
    for stage in STAGES if options.stage == "all" else (options.stage,):
        {"pack": pack, "train": train_both, "evaluate": evaluate}[stage](options)
    return 0


def pack(options: argparse.Namespace) -> None:
    from racdino.openmmlab.inference import dataset_of
    from racdino.openmmlab.training.options import read_config

    config = read_config(options.config, options.set)
    for split in SPLITS:
        Samples.of(dataset_of(config, split)).write(options.work_dir / f"{split}.npz")


def train_both(options: argparse.Namespace) -> None:
    splits = {split: Samples.read(options.work_dir / f"{split}.npz") for split in SPLITS}
    for run, radar in RUNS.items():
        model = train(options, splits["train"], radar, run)
        for split, samples in splits.items():
            found = {}
            for index in range(len(samples)):
                (detections,) = model.detect(samples.batch([index], options.device, radar))
                for name, values in detections._asdict().items():
                    found[f"{index}/{name}"] = values.cpu().numpy()
            np.savez_compressed(options.work_dir / f"found {run} {split}.npz", **found)


def train(options: argparse.Namespace, samples: Samples, radar: bool, run: str) -> torch.nn.Module:
    """The config's model after its schedule, in eval mode. Prints speed, memory and the last losses."""
    from racdino.detector import build

    config = runpy.run_path(str(options.config))
    torch.manual_seed(0)
    model = build(config["model"]).to(options.device).train()
    model.image_precision = (
        torch.float16 if options.device == "cuda" and "Fp16" in str(config["optimizer_config"]) else None
    )
    size, rate = config["batch_size"], config["optimizer"]["lr"] * options.lr_factor
    iterations = options.iterations or config["total_epochs"] * (len(samples) // size)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, rate, weight_decay=config["optimizer"]["weight_decay"])
    scaler = torch.cuda.amp.GradScaler(init_scale=512.0, enabled=model.image_precision is not None)
    begin, losses = time.monotonic(), {}
    for iteration in range(iterations):
        epoch, place = divmod(iteration * size, len(samples) // size * size)
        order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(epoch)).tolist()
        progress = iteration / iterations
        for group in optimiser.param_groups:
            group["lr"] = (
                rate * min(1.0, (iteration + 1) / _WARM_UP) * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)
            )
        losses = model.loss(samples.batch(order[place : place + size], options.device, radar, epoch))
        optimiser.zero_grad()
        scaler.scale(sum(losses.values())).backward()
        scaler.unscale_(optimiser)
        torch.nn.utils.clip_grad_norm_(trained, 35)
        scaler.step(optimiser)
        scaler.update()
        if iteration % 50 == 49:
            speed, loss = (iteration + 1) * size / (time.monotonic() - begin), float(sum(losses.values()))
            print(f"{run}: {iteration + 1}/{iterations}, loss {loss:.2f}, {speed:.2f} samples/s", flush=True)
    memory = f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if options.device == "cuda" else ""
    print(f"{run}: {iterations} iterations of {size} in {time.monotonic() - begin:.0f} s{memory}", flush=True)
    return model.eval()


def evaluate(options: argparse.Namespace) -> None:
    from racdino.detector import Detections
    from racdino.evaluation.nuscenes import eval_set_of
    from racdino.evaluation.nuscenes import evaluate as official
    from racdino.openmmlab.inference import dataset_of
    from racdino.openmmlab.training.options import read_config

    config = read_config(options.config, options.set)
    table = {}
    for split in SPLITS:
        dataset = dataset_of(config, split)
        for run in RUNS:
            with np.load(options.work_dir / f"found {run} {split}.npz") as found:
                results = [
                    Detections(*(torch.from_numpy(found[f"{index}/{name}"]) for name in Detections._fields))
                    for index in range(len(dataset))
                ]
            where = options.work_dir / f"{run} {split}"
            metrics = official(
                results, dataset.data_infos, Path(dataset.data_root), dataset.version,
                eval_set_of(dataset.data_infos, dataset.version), where, dataset.CLASSES,
            )  # fmt: skip
            table[f"{run}, {split}"] = {"NDS": metrics.nds, "mAP": metrics.mean_ap, **metrics.errors}
    (options.work_dir / "learning.json").write_text(json.dumps(table, indent=1))
    print("".join([f"{'':18}", *(f"{name:>8}" for name in next(iter(table.values())))]))
    for name, row in table.items():
        print("".join([f"{name:18}", *(f"{value:8.3f}" for value in row.values())]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", type=Path, default=ROOT / "configs" / "racformer_dinov2_demo.py")
    parser.add_argument("--work-dir", type=Path, default=ROOT / "outputs" / "learning")
    parser.add_argument("--stage", choices=("all", *STAGES), default="all")
    parser.add_argument("--iterations", type=int, help="default: the config's epochs")
    parser.add_argument("--lr-factor", type=float, default=1.0, help="times the config's learning rate")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    changes: Any = parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE")
    changes.help = "change the config's data, e.g. data.train.ann_file=..."
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
