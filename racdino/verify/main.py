"""``python -m racdino.verify``: the five steps, the installation, the op, the backbone, the report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from racdino.container import places

if TYPE_CHECKING:
    from racdino.verify.fingerprint import Fingerprint
    from racdino.verify.frame import Frame

ROOT = Path(__file__).resolve().parents[2]


def main(argv: Sequence[str] | None = None) -> int:
    """Run everything and write the report. 0: all passed, 1: something failed, 2: an argument is unusable."""
    arguments = _parse(argv)
    from racdino.verify.errors import VerifyError

    try:
        inputs = _read_inputs(arguments)
        from racdino.verify.job import run
    except VerifyError as error:
        print(f"verify: {error}", file=sys.stderr)
        return 2
    except ImportError as error:  # the op is not built, or this is no environment of ours: nothing below could run
        print(f"verify: {error}", file=sys.stderr)
        return 1
    return run(ROOT, arguments.output, *inputs)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="racdino verify",
        description="Verify this environment: five steps, installation, op, and DINOv2 + adapter on a frame.",
    )
    parser.add_argument(
        "--frame",
        type=Path,
        metavar="DIR",
        help="six camera images, with or without a .pkl of info format 1.1 (default: six images rendered by racdino)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where report.json and report.html go (default: verify in $RACDINO_OUTPUTS, else outputs/verify)",
    )
    parser.add_argument(
        "--compare", type=Path, metavar="FILE", help="report.json of another machine, to compare the fingerprint with"
    )
    arguments = parser.parse_args(argv)
    arguments.output = arguments.output or places.outputs() / "verify"
    return arguments


def _read_inputs(arguments: argparse.Namespace) -> tuple[Callable[[], Frame], Fingerprint | None]:
    """Everything the user points at, read before the long work starts: a thunk for the frame, the other fingerprint."""
    from racdino.verify import fingerprint
    from racdino.verify.errors import VerifyError
    from racdino.verify.frame import as_input, load_frame
    from racdino.verify.render import render_frame

    other = fingerprint.read(arguments.compare) if arguments.compare else None
    if arguments.frame is None:
        source: Callable[[], Frame] = render_frame
    else:
        frame = load_frame(arguments.frame)
        as_input(frame)  # too flat an image is found here

        def source() -> Frame:
            return frame

    try:
        arguments.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VerifyError(f"--output {arguments.output} cannot be made: {error.strerror}.") from error
    return source, other
