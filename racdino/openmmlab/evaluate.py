"""``racdino eval CONFIG CHECKPOINT``: official metrics, the submission file, speed and memory."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmcv import Config
from torch import nn

from racdino.container import places
from racdino.data.errors import SampleError
from racdino.evaluation import EvaluationError, write_submission
from racdino.evaluation.metrics import Metrics
from racdino.evaluation.nuscenes import SUBMISSION, eval_set_of, evaluate
from racdino.evaluation.speed import Speed
from racdino.evaluation.submission import MODALITY
from racdino.openmmlab.inference import SPLITS, dataset_of, detect, load_model, said
from racdino.openmmlab.training.errors import TrainingError
from racdino.openmmlab.training.options import read_config
from racdino.training import processes
from racdino.training.files import write_text
from racdino.weights.checkpoint import CheckpointError

METRICS = "metrics.json"
SYNTHETIC = "SYNTHETIC.md"  # in the data root of what `racdino data synthesize` made


def main(arguments: Sequence[str]) -> int:
    """Returns 0; 2 where arguments, config, checkpoint or data set do not allow a start; 1 where it broke off."""
    given = _parser().parse_args(arguments)
    begun = False
    try:
        config = read_config(_required(given.config or given.config_option, "config"), given.cfg_options)
        checkpoint = _required(given.checkpoint or given.weights, "checkpoint")
        dataset = dataset_of(config, given.split)
        if not given.results_only:
            eval_set_of(dataset.data_infos, dataset.version)  # fails before the long work
        model, notes = load_model(config, checkpoint, dataset.CLASSES)
        output = given.work_dir or places.outputs() / "eval" / Path(config.filename).stem / checkpoint.stem
        if processes.rank() == 0:
            print(*notes, sep="\n")
        begun = True
        metrics, speed = _run(model, config, dataset, output, given.batch_size, given.results_only)
    except (EvaluationError, CheckpointError, SampleError, TrainingError, OSError) as error:
        print(f"racdino eval: {said(error)}.", file=sys.stderr)
        return 1 if begun else 2
    if processes.rank() != 0:
        return 0
    about = {"config": config.filename, "checkpoint": str(checkpoint), "split": given.split, "notes": notes}
    _write(output, metrics, speed, dataset, about)
    _print(output, metrics, speed, dataset)
    return 0


def evaluate_model(model: nn.Module, config: Config, output: Path, split: str = "val") -> dict[str, Any]:
    """The metrics of a model in training, NDS and mAP among them; the submission goes into the folder ``output``.

    Every process of a run calls it with the same arguments and evaluates its share of the samples; the metrics are
    process 0's, the others get an empty dict.

    Raises:
        EvaluationError, SampleError: see `racdino.evaluation.nuscenes.evaluate` and the data set.
    """
    dataset = dataset_of(config, split)
    metrics, speed = _run(model, config, dataset, output, 1, results_only=False)
    return _content(metrics, speed, dataset) if metrics else {}


def _run(
    model: nn.Module, config: Config, dataset: Any, output: Path, batch_size: int, results_only: bool
) -> tuple[Metrics | None, Speed | None]:
    """Metrics are None in other processes than the first, and of results only."""
    rank, count = processes.rank(), processes.count()
    indices = range(rank, len(dataset), count)
    found, speed = detect(model, dataset, indices, batch_size, config.data.get("workers_per_gpu", 0), rank == 0)
    shares = processes.of_all(found)
    results = [shares[index % count][index // count] for index in range(len(dataset))]
    modality = {key: bool(value) for key, value in (dataset.modality or MODALITY).items()}

    def finish() -> Metrics | None:
        infos, version = dataset.data_infos, dataset.version
        if results_only:
            write_submission(results, infos, output / SUBMISSION, dataset.CLASSES, modality)
            return None
        eval_set = eval_set_of(infos, version)
        return evaluate(results, infos, Path(dataset.data_root), version, eval_set, output, dataset.CLASSES, modality)

    metrics = processes.by_process_0(finish)
    return (metrics if rank == 0 else None), speed


def _content(metrics: Metrics | None, speed: Speed | None, dataset: Any) -> dict[str, Any]:
    return {
        **(metrics.as_json() if metrics else {}),
        "version": dataset.version,
        "synthetic": is_synthetic(dataset),
        "speed": speed.as_json() if speed else None,
    }


def _write(output: Path, metrics: Metrics | None, speed: Speed | None, dataset: Any, about: dict[str, Any]) -> None:
    write_text(output / METRICS, json.dumps({**_content(metrics, speed, dataset), **about}, indent=1) + "\n")


def _print(output: Path, metrics: Metrics | None, speed: Speed | None, dataset: Any) -> None:
    if is_synthetic(dataset):
        print("The data set is synthetic (racdino data synthesize): these are no results on nuScenes.")
    if metrics:
        print(f"\n{metrics.table()}")
    if speed:
        print(f"\n{speed.table()}")
    print(f"\n{output / SUBMISSION}\n{output / METRICS}")


def is_synthetic(dataset: Any) -> bool:
    return (Path(dataset.data_root) / SYNTHETIC).is_file()


def _required(value: Path | None, name: str) -> Path:
    if value is None:
        raise EvaluationError(f"Which {name}? racdino eval CONFIG CHECKPOINT.")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="racdino eval",
        description="Official nuScenes metrics of a checkpoint, its submission file, speed and memory.",
    )
    parser.add_argument("config", nargs="?", type=Path, metavar="CONFIG", help="the config that it was trained with")
    parser.add_argument("checkpoint", nargs="?", type=Path, metavar="CHECKPOINT", help="a .pth of ours or of upstream")
    parser.add_argument(
        "--config", dest="config_option", type=Path, metavar="CONFIG", help="the same, as upstream has it"
    )
    parser.add_argument("--weights", type=Path, metavar="CHECKPOINT", help="the same, as upstream has it")
    parser.add_argument(
        "--work-dir", type=Path, metavar="DIR", help="for results (default: outputs/eval/<config>/<checkpoint>)"
    )
    parser.add_argument("--split", choices=SPLITS, default="val", help="which data set of the config (default: val)")
    changes = parser.add_argument("--cfg-options", "--override", nargs="+", action="extend", default=[])
    changes.metavar, changes.help = "KEY=VALUE", "change the config, as in training"
    parser.add_argument("--results-only", action="store_true", help="write the submission, compute no metrics")
    batch = parser.add_argument("--batch-size", "--batch_size", type=_positive, default=1, metavar="N")
    batch.help = "samples at once (default: 1, with which the field tells FPS)"
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


if __name__ == "__main__":
    processes.start()
    processes.leave(lambda: main(sys.argv[1:]))
