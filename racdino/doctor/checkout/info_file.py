"""What an info file (a pickle) says of itself, told from its opcodes: it is never unpickled."""

from __future__ import annotations

import io
import pickletools
import struct
from dataclasses import dataclass, field
from pathlib import Path

_READ = 8 << 20  # bytes: the first key frames
_ENOUGH = 400_000  # opcodes
_WORD = 100  # characters
_LONG = 3.5  # metres: vehicles; what is shorter is about as long as wide


@dataclass
class InfoFile:
    """Attributes: words: the strings of the first key frames; boxes: (dx, dy) of their boxes, in file order."""

    words: set[str] = field(default_factory=set)
    boxes: list[tuple[float, float]] = field(default_factory=list)
    defect: str = ""

    @property
    def long_axis(self) -> int | None:
        """0 where vehicles are longer along the first size, 1 along the second, None where that is not clear."""
        long = [first > second for first, second in self.boxes if max(first, second) > _LONG]
        share = sum(long) / len(long) if len(long) >= 5 else 0.5
        return 0 if share > 0.8 else 1 if share < 0.2 else None


def read_info_file(path: Path) -> InfoFile:
    """The first 8 MiB of ``path``, as opcodes."""
    info = InfoFile()
    try:
        with path.open("rb") as file:
            content = file.read(_READ)
    except OSError as error:
        info.defect = f"cannot be read: {error.strerror}"
        return info
    if not content.startswith(b"\x80"):
        info.defect = "is empty" if not content else "is no pickle"
        return info
    cut = len(content) == _READ
    try:
        _follow(content, info)
    except (ValueError, UnicodeError, struct.error) as error:
        if not cut:
            info.defect = f"is a pickle that ends early or is damaged ({str(error)[:60]})"
    return info


def _follow(content: bytes, info: InfoFile) -> None:
    """Collect strings, and the bytes of each array after the key ``gt_boxes``, also where that is a memo's."""
    awaited, dtype, last, memo, boxes_key = False, "f8", "", 0, None
    for count, (opcode, argument, _) in enumerate(pickletools.genops(io.BytesIO(content))):
        if count > _ENOUGH:
            return
        name = opcode.name
        if name == "MEMOIZE" or name.endswith("BINPUT"):
            index = memo if argument is None else argument
            memo += 1
            boxes_key = index if last == "gt_boxes" and boxes_key is None else boxes_key
        last = ""
        if name.endswith("BINGET") and boxes_key is not None and argument == boxes_key:
            awaited = True
        elif isinstance(argument, str) and "UNICODE" in name and len(argument) < _WORD:
            info.words.add(argument)
            last = argument
            awaited = argument == "gt_boxes" or (awaited and not argument.startswith(("gt_", "num_", "valid_")))
            dtype = argument if awaited and argument in ("f8", "f4") else dtype
        elif awaited and isinstance(argument, (bytes, bytearray, str)) and len(argument) > 1:
            raw = argument.encode("latin1", "replace") if isinstance(argument, str) else bytes(argument)
            info.boxes += _sizes(raw, dtype)
            awaited = False


def _sizes(raw: bytes, dtype: str) -> list[tuple[float, float]]:
    code, width = ("<7d", 56) if dtype == "f8" else ("<7f", 28)
    if len(raw) % width:
        return []
    rows = [(row[3], row[4]) for row in struct.iter_unpack(code, raw)]
    return rows if all(0.01 < side < 60 for row in rows for side in row) else []
