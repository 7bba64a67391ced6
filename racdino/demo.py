"""The demo: ``racdino train`` without a config, ``python -m racdino.demo``, ``make demo``.

Renders a small synthetic data set, trains configs/racformer_dinov2_demo.py on it, evaluates on the very samples that
it was trained on, and draws them. Everything goes into the folder ``demo`` of the outputs; run again, it continues.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from racdino.container import places
from racdino.launch import own_python

CONFIG = places.PROJECT / "configs" / "racformer_dinov2_demo.py"
VERSION = "v1.0-mini"
SCENES = ("--scenes", "4", "--samples-per-scene", "6", "--image-size", "800x450")
_SPLITS = {"train": "train", "val": "train", "test": "val"}  # as the config has them


def main(arguments: Sequence[str] = ()) -> int:
    """Exit status of the first step that fails, else 0."""
    if arguments:
        print(
            f"racdino train: {arguments[0]} comes without a config. The demo takes no options; "
            "write racdino train CONFIG [OPTION ...].",
            file=sys.stderr,
        )
        return 2
    if not CONFIG.is_file():
        print(f"racdino train: the demo's config is not at {CONFIG}: run it from a checkout.", file=sys.stderr)
        return 2
    folder = places.outputs() / "demo"
    data, run = folder / "data", folder / "run"
    checkpoint = run / "latest.pth"
    changes = ["--cfg-options", *_data_options(data)]
    steps = (
        ("the synthetic data set", "data", ["synthesize", "--root", str(data), *SCENES]),
        ("its info files", "data", ["prepare", "--root", str(data), "--version", VERSION]),
        ("training", "train", [str(CONFIG), "--work-dir", str(run), "--resume", "auto", *changes]),
        ("evaluation", "eval", [str(CONFIG), str(checkpoint), "--work-dir", str(folder / "eval"), *changes]),
        ("pictures", "show", [str(CONFIG), str(checkpoint), "--out", str(folder / "show"), *changes]),
    )
    for number, (name, command, words) in enumerate(steps, 1):
        print(f"demo {number}/{len(steps)}: {name}", flush=True)
        status = _run(command, words)
        if status:
            print(f"demo: {name} ended with status {status}; the reason is above.", file=sys.stderr)
            return status
    print(f"demo: done; open {folder / 'show' / 'index.html'}. None of this is nuScenes: the scenes are rendered.")
    return 0


def _data_options(root: Path) -> list[str]:
    """The config's three data sets, moved to ``root``."""
    return [
        option
        for name, split in _SPLITS.items()
        for option in (
            f"data.{name}.data_root={root}/",
            f"data.{name}.ann_file={root}/nuscenes_infos_{split}_mini_sweep.pkl",
        )
    ]


def _run(command: str, words: list[str]) -> int:
    """One command of racdino: training in a process of its own, as always, the others in this one."""
    if command == "data":
        from racdino.data.main import main as data

        return data(words)
    if command == "train":
        return _train(words)
    if command == "eval":
        from racdino.openmmlab.evaluate import main as evaluate

        return evaluate(words)
    from racdino.openmmlab.show import main as show

    return show(words)


def _train(words: list[str]) -> int:
    """Its status; a stop that is asked of this process is handed on. Its workers heed no signal and end with it."""
    with subprocess.Popen([*own_python(), "-m", "racdino.openmmlab.training", *words]) as process:
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, lambda number, _: process.send_signal(number))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches both
        status = process.wait()
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
