"""``racdino data synthesize``: render a data set in nuScenes' format.

The same options give the same bytes. Default: ten scenes with nuScenes mini's names, key frames at 2 Hz and radar
sweeps at 13 Hz between them, in data/synthetic.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from racdino.synthetic.dataset import MARKER, NotSyntheticError, synthesize
from racdino.synthetic.parameters import SPLITS, Parameters

DEFAULT_ROOT = Path("data/synthetic")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        parameters = Parameters(
            version=options.version,
            scenes=options.scenes,
            samples_per_scene=options.samples_per_scene,
            image_size=options.image_size,
            seed=options.seed,
            camera_sweeps=options.camera_sweeps,
            lidar_sweeps=options.lidar_sweeps,
        )
        made = synthesize(options.root, parameters, options.workers)
    except (ValueError, OSError) as error:
        kept = "" if isinstance(error, NotSyntheticError) else "; nothing was changed"
        print(f"racdino data synthesize: {error}{kept}.", file=sys.stderr)
        return 1
    except BrokenProcessPool:
        print("racdino data synthesize: a worker was killed (memory?); try --workers 1.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was changed", file=sys.stderr)
        return 130
    state = "rendered" if made else "already there, nothing to do"
    print(f"{options.root}: {parameters.version}, {parameters.scenes} synthetic scenes, {state} (see {MARKER})")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="racdino data synthesize",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    usual = Parameters()
    parser.add_argument("--root", type=Path, default=DEFAULT_ROOT, help="folder to make (default: %(default)s)")
    parser.add_argument("--version", choices=SPLITS, default=usual.version, help="whose scene names and splits")
    parser.add_argument("--scenes", type=int, default=usual.scenes, metavar="N", help="train and val together")
    parser.add_argument(
        "--samples-per-scene", type=int, default=usual.samples_per_scene, metavar="K", help="key frames at 2 Hz"
    )
    parser.add_argument("--image-size", type=_size, default=usual.image_size, metavar="WxH", help="default 1600x900")
    parser.add_argument("--seed", type=int, default=usual.seed, metavar="S")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one per CPU)")
    parser.add_argument(
        "--camera-sweeps", type=int, default=usual.camera_sweeps, metavar="N",
        help="images between key frames, 5 as nuScenes' 12 Hz (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--lidar-sweeps", type=int, default=usual.lidar_sweeps, metavar="N",
        help="LiDAR sweeps between key frames, 9 as nuScenes' 20 Hz (default: %(default)s)",
    )  # fmt: skip
    return parser


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, e.g. 800x450")
    return int(width), int(height)


if __name__ == "__main__":
    raise SystemExit(main())
