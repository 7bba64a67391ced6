"""Weigh what an image holds, from inside: its Python runs this file's text, and one line of JSON comes back.

Bytes are apparent sizes, a file with several links counted once. Byte code is counted apart from the packages, since no
archive brings it. Standard library only, nothing of this project: the image may be of any revision.
"""

from __future__ import annotations

import json
import os
import re
import sys
from importlib.metadata import distributions
from pathlib import Path

DPKG = Path("/var/lib/dpkg/status")


def weigh(prefix: Path, python: Path, status: Path) -> dict[str, object]:
    """Bytes by kind: ``python``, ``byte code``, ``distributions`` and ``debian`` packages by name."""
    return {
        "python": sum(_tree(python).values()),
        "byte code": sum(_tree(python, byte_code=True).values()) + sum(_tree(prefix, byte_code=True).values()),
        "distributions": _distributions(prefix),
        "debian": _debian(status),
    }


def _tree(root: Path, byte_code: bool = False) -> dict[tuple[int, int], int]:
    """Size by (device, inode) of the files in a folder: byte code only, or all others."""
    sizes = {}
    for folder, _, files in os.walk(root):
        for name in files:
            if name.endswith(".pyc") == byte_code:
                found = os.lstat(os.path.join(folder, name))  # noqa: PTH118 (a hundred thousand files)
                sizes[found.st_dev, found.st_ino] = found.st_size
    return sizes


def _distributions(prefix: Path) -> dict[str, int]:
    """Bytes of the files that each distribution's RECORD names, by its name."""
    folders = [str(folder) for folder in sorted(prefix.glob("lib/python3.*/site-packages"))]
    sizes = {}
    for found in distributions(path=folders):
        paths = {str(file.locate()) for file in found.files or () if file.suffix != ".pyc"}
        name = re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower()  # as the locks spell it
        sizes[name] = sum(os.lstat(path).st_size for path in paths if os.path.lexists(path))
    return sizes


def _debian(status: Path) -> dict[str, int]:
    """Installed-Size of each package that dpkg lists, which it gives in KiB."""
    sizes = {}
    for stanza in status.read_text(encoding="utf-8").strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[0] != " ")
        if fields["Status"].endswith(" installed"):
            sizes[fields["Package"]] = int(fields.get("Installed-Size", 0)) * 1024
    return sizes


if __name__ == "__main__":
    print(json.dumps(weigh(Path(sys.prefix), Path(sys.base_prefix), DPKG)))
