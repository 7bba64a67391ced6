"""``python setup.py build install`` in this folder: build the op through the project's own setup.py and its cache.

``build`` compiles ``racdino/_C`` in place; ``install`` makes the checkout importable, unless it is already. Other
arguments are refused, because nothing here would obey them.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
COMMANDS = {"build": ("build_ext", "--inplace"), "install": ("develop", "--no-deps")}


def installed() -> bool:
    """Whether this interpreter finds racdino without the checkout on its path."""
    try:
        importlib.metadata.distribution("racdino")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def main(commands: list[str]) -> int:
    unknown = [command for command in commands if command not in COMMANDS]
    if unknown or not commands:
        print(f"usage: python setup.py build install  (not: {' '.join(unknown) or 'nothing'})", file=sys.stderr)
        return 2
    for command in commands:
        if command == "install" and installed():
            print(f"racdino is installed in {sys.prefix}; the op is built in place, nothing to copy.")
            continue
        status = subprocess.call([sys.executable, "setup.py", *COMMANDS[command]], cwd=ROOT)
        if status:
            print(f"setup.py: `{command}` failed with status {status}; its own message is above.", file=sys.stderr)
            return status
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
