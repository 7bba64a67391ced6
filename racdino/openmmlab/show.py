"""``racdino show CONFIG CHECKPOINT``: samples drawn with what the detector finds and what is there."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from racdino.container import places
from racdino.data import images
from racdino.data.errors import SampleError
from racdino.data.history import CAMERAS, key_moment
from racdino.data.radar import accumulate
from racdino.evaluation import EvaluationError
from racdino.evaluation.detections import Found, checked, truth
from racdino.openmmlab.evaluate import is_synthetic
from racdino.openmmlab.inference import SPLITS, dataset_of, detect, load_model, said
from racdino.openmmlab.training.errors import TrainingError
from racdino.openmmlab.training.options import read_config
from racdino.show.gallery import Page, make_page, write_gallery
from racdino.show.sample import Sample
from racdino.show.sheet import compose, views
from racdino.training.files import write_whole
from racdino.weights.checkpoint import CheckpointError

WIDTH = 640  # pixels of a drawn camera
PAGE = "index.html"


def main(arguments: Sequence[str]) -> int:
    """Returns 0; 1 with a sentence on stderr."""
    given = _parser().parse_args(arguments)
    try:
        config = read_config(given.config, given.cfg_options)
        dataset = dataset_of(config, given.split)
        indices = choose(len(dataset), given.samples)
        found: Sequence[Found | None] = [None] * len(indices)
        notes = ["Synthetic data (racdino data synthesize), not nuScenes."] if is_synthetic(dataset) else []
        if not given.truth:
            if given.checkpoint is None:
                raise EvaluationError("Which checkpoint? racdino show CONFIG CHECKPOINT, or CONFIG --truth without one")
            model, said_of_weights = load_model(config, given.checkpoint, dataset.CLASSES)
            found, _ = detect(model, dataset, indices, 1, config.data.get("workers_per_gpu", 0))
            notes += [*said_of_weights, f"Detections from a score of {given.score} on."]
        name = "truth" if given.truth else given.checkpoint.stem
        output = given.out or places.outputs() / "show" / Path(config.filename).stem / name
        show(dataset, indices, found, given.score, output, f"{Path(config.filename).stem}, {name}", notes)
    except (EvaluationError, CheckpointError, SampleError, TrainingError, OSError) as error:
        print(f"racdino show: {said(error)}.", file=sys.stderr)
        return 1
    print(output / PAGE)
    return 0


def show(
    dataset: Any,
    indices: Sequence[int],
    found: Sequence[Found | None],
    score: float,
    output: Path,
    heading: str,
    notes: Sequence[str],
) -> None:
    """Draw the samples ``indices``: a PNG each and ``index.html`` in the folder ``output``."""
    output.mkdir(parents=True, exist_ok=True)
    pages: list[Page] = []
    for index, detections in zip(tqdm(indices, desc="pictures", disable=None), found, strict=True):
        sample = load_sample(dataset, index, detections, score)
        title = f"sample {index + 1} of {len(dataset)}, {dataset.data_infos[index]['scene_name']}, {sample.token}"
        pictures = views(sample)
        _write_png(output / f"{index:05d}_{sample.token[:8]}.png", compose(pictures, sample, title))
        pages.append(make_page(pictures, sample, title))
    write_gallery(output / PAGE, pages, f"RacDINO: {heading}", notes, dataset.CLASSES)


def choose(available: int, count: int) -> list[int]:
    """``count`` indices spread over the data set, or all of a smaller one."""
    return np.unique(np.linspace(0, available - 1, min(count, available)).round().astype(int)).tolist()


def load_sample(dataset: Any, index: int, found: Found | None, score: float) -> Sample:
    """Sample ``index`` of a CustomNuScenesDataset_radar, with the detections of at least ``score``.

    Raises:
        SampleError: one of its files is missing or damaged; the message names it.
        EvaluationError: a detection is not finite.
    """
    info, names = dataset.data_infos[index], list(dataset.CLASSES)
    if found is not None:
        checked(found, info["token"], len(names))
        found = Found(*(part[found.scores >= score] for part in found))
    try:
        results = dataset.get_data_info(index)
        drawn, lidar2img = zip(*map(_scaled, results["img_filename"], results["lidar2img"]), strict=True)
        radar, _ = accumulate(info, key_moment(info), dataset.infos, dataset.locate)
    except (OSError, ValueError) as error:
        raise SampleError(f"Sample {info['token']} cannot be drawn: {said(error)}") from error
    return Sample(
        token=info["token"],
        class_names=names,
        cameras=CAMERAS,
        images=drawn,
        lidar2img=np.stack(lidar2img),
        radar=radar,
        truth=truth(info, names) if "gt_boxes" in info else None,
        found=found,
    )


def _scaled(path: str, lidar2img: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The image as RGB, ``WIDTH`` wide, and the projection into it."""
    image = images.decode(path)[..., ::-1]
    scale = WIDTH / image.shape[1]
    size = (WIDTH, round(scale * image.shape[0]))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.diag([scale, scale, 1, 1]) @ lidar2img


def _write_png(path: Path, picture: np.ndarray) -> None:
    _, content = cv2.imencode(".png", picture[..., ::-1])
    write_whole(path, lambda file: file.write(content.tobytes()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="racdino show",
        description="Draw samples on their six cameras and from above: PNGs and one HTML page that needs nothing else.",
    )
    parser.add_argument("config", type=Path, metavar="CONFIG")
    parser.add_argument("checkpoint", nargs="?", type=Path, metavar="CHECKPOINT")
    parser.add_argument("--truth", action="store_true", help="the true boxes alone, without a model")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="for pictures (default: outputs/show/<config>/<checkpoint>)"
    )
    parser.add_argument("--samples", type=int, default=8, metavar="N", help="spread over the data set (default: 8)")
    parser.add_argument("--split", choices=SPLITS, default="val", help="which data set of the config (default: val)")
    parser.add_argument("--score", type=float, default=0.2, help="draw detections from this score on (default: 0.2)")
    changes = parser.add_argument("--cfg-options", "--override", nargs="+", action="extend", default=[])
    changes.metavar, changes.help = "KEY=VALUE", "change the config, as in training"
    return parser
