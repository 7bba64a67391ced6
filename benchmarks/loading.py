"""Samples per second of RaCFormer's data pipelines beside the plain pipeline, measured in the same run.

    python benchmarks/loading.py                               a made data set in nuScenes' sizes
    python benchmarks/loading.py --root DIR --infos FILE       a prepared one

Both go through the same data set class, config, samples and random draws, and through a DataLoader with two worker
processes; benchmarks/loading_peer.py holds the plain steps. Rounds alternate, workers and caches are new in each, all
files are in the page cache, and the medians are compared. The made images are 1600x900 JPEGs of about the size of
nuScenes' (145 KB), since decoding time depends on it; radar sweeps have 110 points, LiDAR sweeps 34700.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from pathlib import Path

import cv2
import torch
from mmcv import Config
from mmcv.parallel import collate
from mmdet3d.datasets import build_dataset
from torch.utils.data import DataLoader

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests/data"), str(ROOT / "benchmarks")]

from loading_peer import difference, plain  # noqa: E402
from small_nuscenes import SmallNuScenes  # noqa: E402

import racdino.openmmlab.dataset  # noqa: E402, F401
from racdino.data import images, radar  # noqa: E402

CONFIG = ROOT / "configs/racformer_r50_nuimg_704x256_f8.py"
WORKERS = 2


def one(batch):
    return collate(batch, samples_per_gpu=1)


def start_worker(_):
    cv2.setNumThreads(1)


def samples_per_second(dataset, order):
    """From the first sample's arrival to the last's, with new workers."""
    keys = [(0, index) for index in order]
    loader = DataLoader(
        dataset, sampler=keys, num_workers=WORKERS, collate_fn=one, worker_init_fn=start_worker, prefetch_factor=2
    )
    begin = None
    for _ in loader:
        begin = begin or time.perf_counter()
    return (len(keys) - 1) / (time.perf_counter() - begin)


def milliseconds_by_step(dataset, order):
    """Of one sample in this process."""
    spent = defaultdict(float)

    def timed(step):
        def call(results):
            begin = time.perf_counter()
            results = step(results)
            spent[type(step).__name__] += (time.perf_counter() - begin) * 1e3 / len(order)
            return results

        return call

    steps = dataset.pipeline.transforms
    dataset.pipeline.transforms = [timed(step) for step in steps]
    for index in order:
        dataset[0, index]
    dataset.pipeline.transforms = steps
    return {name: round(ms) for name, ms in spent.items() if ms >= 0.5}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder of a data set with 1600x900 images")
    parser.add_argument("--infos", default="nuscenes_infos_train_mini_sweep.pkl", help="info file in it")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        root, infos = arguments.root, arguments.infos
        if root is None:
            sizes = {"radar_points": 110, "lidar_points": 34_700, "texture": 32, "quality": 79}
            made = SmallNuScenes(temporary, arguments.samples, 1600, 900, **sizes)
            root, infos = made.root, made.info_file.name
        front = sorted(root.glob("samples/CAM_FRONT/*.jpg"))
        size = statistics.mean(path.stat().st_size for path in front)
        decoder = "libturbojpeg" if images._turbojpeg() else "OpenCV"
        print(f"{len(front)} key frames, images of {size / 1000:.0f} KB, decoded by {decoder}, {WORKERS} workers\n")
        config = Config.fromfile(CONFIG)
        print("pipeline   plain samples/s   racdino samples/s   ratio")
        for name, split in (("training", config.data.train), ("test", config.data.val)):
            measure(name, {**split, "ann_file": str(root / infos), "data_root": str(root)}, arguments)


def measure(name, split, arguments):
    datasets = {
        "plain": build_dataset({**split, "pipeline": plain(split["pipeline"])}),
        "racdino": build_dataset(split),
    }
    order = list(range(len(datasets["plain"])))[-arguments.samples :]
    same = [dataset[0, order[-1]] for dataset in datasets.values()]
    check_same(*same)
    rates = defaultdict(list)
    for _ in range(arguments.rounds):
        for which, dataset in datasets.items():
            forget()
            rates[which].append(samples_per_second(dataset, order))
    middle = {which: statistics.median(found) for which, found in rates.items()}
    print(f"{name:<9}{middle['plain']:>17.2f}{middle['racdino']:>20.2f}{middle['racdino'] / middle['plain']:>8.2f}")
    for which, dataset in datasets.items():
        forget()
        print(f"  {which}, ms a sample by step: {milliseconds_by_step(dataset, order[-4:])}")


def forget():
    images.load.cache_clear()
    radar.sensor_points.cache_clear()


def check_same(a, b):
    """Both pipelines make the same sample, up to the decoder's rounding."""

    def value(sample, key):
        found = sample[key][0] if isinstance(sample[key], list) else sample[key]
        return found.data

    assert difference(value(a, "img"), value(b, "img")) < 4
    for key in ("gt_depth", "radar_depth", "radar_rcs"):
        assert difference(value(a, key), value(b, key)) < 0.02, key


if __name__ == "__main__":
    main()
