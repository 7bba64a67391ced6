"""The entrypoint: a command of ``racdino``, or any program with its arguments as they were given."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

from racdino.container import places
from racdino.launch import replace_process

QUIET = {"info", "weights", "-h", "--help", "--version"}
COMMANDS = {"verify", "doctor", "data", "train", "eval", "show", "shell"}
_WARNED = COMMANDS - {"doctor", "data"}  # doctor prints the same findings itself
_PYTHON = re.compile(r"python[\d.]*|torchrun")


def main(arguments: Sequence[str]) -> int:
    """Become the command; returns only where it could not start, 127 for an unknown program, or when it is quiet."""
    word, *rest = arguments or ["info"]
    places.enter()
    if word in QUIET:
        from racdino.cli import main as racdino

        return racdino([word, *rest])
    os.environ["RACDINO_OUTPUTS"] = str(places.outputs())
    if word in _WARNED or _PYTHON.fullmatch(os.path.basename(word)):  # noqa: PTH119  (a name, maybe no path)
        from racdino.doctor.environment.at_start import start_warnings

        for warning in start_warnings():
            print(f"racdino: {warning}", file=sys.stderr)
    if word in COMMANDS:  # -I: the racdino of the image, whatever lies in the working directory
        return replace_process([sys.executable, "-I", "-m", "racdino", word, *rest])
    return replace_process([word, *rest])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
