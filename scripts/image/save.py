"""Export an image as an archive that depends on nothing but its content: `invoke image.save FILE`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from scripts.image.base import ROOT, epoch
from scripts.image.engine import find_engine
from scripts.image.errors import ImageError
from scripts.image.normalise import normalise
from scripts.image.run import IMAGE


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0: the archive is there, whole."""
    parser = argparse.ArgumentParser(prog="invoke image.save", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("image", nargs="?", default=IMAGE)
    options = parser.parse_args(arguments)
    try:
        engine = find_engine()
        with tempfile.TemporaryDirectory(prefix=".racdino-save-", dir=options.file.resolve().parent) as folder:
            exported, normal = Path(folder) / "exported.tar", Path(folder) / "normal.tar"
            engine.run(["save", "--output", str(exported), options.image])
            digest = normalise(exported, normal, epoch(ROOT / "environment" / "apt.lock"))
            normal.replace(options.file)
    except (ImageError, OSError) as error:
        print(f"image.save: {error}", file=sys.stderr)
        return 1
    print(f"{options.file}: image {digest}; `docker load`, `podman load` and `apptainer build` read it")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
