"""Read a checkpoint without executing anything it says.

A ``.pth`` file is a zip archive whose ``data.pkl`` is a pickle, i.e. a program, and torch 2.0's own
``torch.load(weights_only=True)`` can be talked into running it (CVE-2025-32434). So ``torch.load`` is not used: the
pickle's opcodes are read by a small interpreter that builds dicts, lists, tuples, numbers and strings, knows the few
names that ``torch.save`` writes for tensors, calls nothing else, and refuses whatever it does not know. Tensors are
views of the memory-mapped archive, every offset, size and stride checked against it, so that even a file of 4.5 GB is
in memory once, in the model.
``.safetensors`` files go through the safetensors library.
"""

from __future__ import annotations

import mmap
import os
import pickletools
import struct
import zipfile
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

_MAX_PICKLE_BYTES = 64 << 20  # data.pkl of DINOv2 ViT-g is under 0.1 MiB


class CheckpointError(ValueError):
    """The file is damaged, of a kind that cannot be read safely, or does not fit the model; nothing was loaded."""


class _Global(NamedTuple):
    """A name in the pickle, not imported, only compared."""

    name: str


@dataclass(frozen=True)
class _Storage:
    data: torch.Tensor  # one-dimensional


_MARK = object()
_STORAGE_DTYPES = {
    f"torch {kind}Storage": dtype
    for kind, dtype in {
        "Double": torch.float64,
        "Float": torch.float32,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
}
_ORDERED_DICT = "collections OrderedDict"
_TENSOR = "torch._utils _rebuild_tensor_v2"
_PARAMETER = "torch._utils _rebuild_parameter"
_ALLOWED = {_ORDERED_DICT, _TENSOR, _PARAMETER, *_STORAGE_DTYPES}


def read_checkpoint(path: str | os.PathLike[str]) -> Any:
    """The content of a checkpoint: tensors on the CPU in dicts, lists and tuples, as they were saved.

    Args:
        path: a file of ``torch.save`` in zip format (torch >= 1.6), or ``*.safetensors``.
    Raises:
        CheckpointError: one sentence that names the file and what is wrong with it.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    with path.open("rb") as file:
        magic = file.read(4)
    if magic != b"PK\x03\x04":
        raise CheckpointError(
            f"{path} is not in torch's zip format: older formats run code when they are read, so save it again "
            "with torch >= 1.6 on the machine you trust it on, or as .safetensors"
        )
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            return _Reader(archive, content).read()
    except CheckpointError as error:
        raise CheckpointError(f"{path} {error}") from error.__cause__
    except (zipfile.BadZipFile, struct.error, EOFError, NotImplementedError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged or incomplete ({error}); fetch or copy it again") from error


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        import safetensors
        import safetensors.torch
    except ImportError:
        raise CheckpointError(f"{path} needs the safetensors library: pip install safetensors") from None
    try:
        return safetensors.torch.load_file(str(path))
    except safetensors.SafetensorError as error:  # type: ignore[attr-defined]  # not in the stubs of 0.4.3
        raise CheckpointError(f"{path} is damaged or incomplete ({error}); fetch or copy it again") from error


class _Reader:
    """Interprets ``data.pkl`` of one archive over its memory-mapped bytes."""

    def __init__(self, archive: zipfile.ZipFile, content: mmap.mmap) -> None:
        self.archive = archive
        self.content = content
        self.records = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in self.records if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise CheckpointError("is a zip archive, but not one of torch.save: it has no single data.pkl")
        self.prefix = pickles[0].removesuffix("data.pkl")
        self.storages: dict[tuple[str, torch.dtype], _Storage] = {}

    def read(self) -> Any:
        info = self.records[self.prefix + "data.pkl"]
        if info.file_size > _MAX_PICKLE_BYTES:
            raise CheckpointError(f"has a data.pkl of {info.file_size} bytes, more than any model needs")
        order = self.records.get(self.prefix + "byteorder")
        if order is not None and bytes(self._bytes(order)) != b"little":
            raise CheckpointError("was not saved on a little-endian machine")
        try:
            return self._interpret(bytes(self._bytes(info)))
        except CheckpointError:
            raise
        except (ValueError, TypeError, IndexError, KeyError, OverflowError, RecursionError) as error:
            raise CheckpointError(f"has a malformed data.pkl ({type(error).__name__}: {error})") from error

    def _bytes(self, info: zipfile.ZipInfo) -> memoryview:
        """The stored bytes of a record, without copying them; size and checksum are checked."""
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise CheckpointError(
                f"has a compressed or encrypted record {info.filename}, which torch.save never writes"
            )
        header = self.content[info.header_offset : info.header_offset + 30]
        signature, name_length, extra_length = struct.unpack("<4s22xHH", header)
        begin = info.header_offset + 30 + name_length + extra_length
        view = memoryview(self.content)[begin : begin + info.file_size]
        if signature != b"PK\x03\x04" or len(view) != info.file_size or zlib.crc32(view) != info.CRC:
            raise CheckpointError(f"is damaged or incomplete in record {info.filename}; fetch or copy it again")
        return view

    def _interpret(self, program: bytes) -> Any:
        """Run the pickle's opcodes on a stack; every branch below only builds data."""
        stack: list[Any] = []
        memo: dict[int, Any] = {}

        def since_mark() -> list[Any]:
            at = len(stack) - 1
            while stack[at] is not _MARK:
                at -= 1
            items = stack[at + 1 :]
            del stack[at:]
            return items

        argument: Any
        for opcode, argument, _ in pickletools.genops(program):
            match opcode.name:
                case "PROTO":
                    if argument != 2:
                        raise CheckpointError(
                            f"has a data.pkl of pickle protocol {argument}, where torch.save writes 2"
                        )
                case "MARK":
                    stack.append(_MARK)
                case "NONE":
                    stack.append(None)
                case "NEWTRUE":
                    stack.append(True)
                case "NEWFALSE":
                    stack.append(False)
                case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE":
                    stack.append(argument)
                case "EMPTY_DICT":
                    stack.append({})
                case "EMPTY_LIST":
                    stack.append([])
                case "EMPTY_TUPLE":
                    stack.append(())
                case "TUPLE":
                    stack.append(tuple(since_mark()))
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    count = int(opcode.name[-1])
                    items = tuple(stack[-count:])
                    del stack[-count:]
                    stack.append(items)
                case "APPEND":
                    item = stack.pop()
                    _expect(stack[-1], list).append(item)
                case "APPENDS":
                    items_ = since_mark()
                    _expect(stack[-1], list).extend(items_)
                case "SETITEM":
                    value, key = stack.pop(), stack.pop()
                    _expect(stack[-1], dict)[_expect_key(key)] = value
                case "SETITEMS":
                    pairs = since_mark()
                    keys = map(_expect_key, pairs[::2])
                    _expect(stack[-1], dict).update(zip(keys, pairs[1::2], strict=True))
                case "BINPUT" | "LONG_BINPUT":
                    memo[argument] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    stack.append(memo[argument])
                case "GLOBAL":
                    if argument not in _ALLOWED:
                        name = argument.replace(" ", ".")
                        raise CheckpointError(f"asks for {name}, which no weights need: refused, nothing was executed")
                    stack.append(_Global(argument))
                case "BINPERSID":
                    stack.append(self._storage(*stack.pop()))
                case "REDUCE":
                    arguments = stack.pop()
                    stack.append(_build(_expect(stack.pop(), _Global).name, _expect(arguments, tuple)))
                case "BUILD":
                    stack.pop()  # state_dict()._metadata, the only state torch.save gives one of these types
                    _expect(stack[-1], OrderedDict)
                case "STOP":
                    return stack.pop()
                case _:
                    raise CheckpointError(
                        f"has a data.pkl with the instruction {opcode.name}, which torch.save never writes"
                    )
        raise CheckpointError("has a data.pkl without an end")

    def _storage(self, kind: str, dtype: _Global, key: str, location: str, count: int) -> _Storage:
        scalar = _STORAGE_DTYPES[_expect(dtype, _Global).name]
        if kind != "storage" or not isinstance(key, str) or type(count) is not int:
            raise CheckpointError("has a malformed data.pkl (a storage is not described as torch.save does)")
        if (key, scalar) not in self.storages:
            info = self.records.get(f"{self.prefix}data/{key}")
            itemsize = torch.empty((), dtype=scalar).element_size()
            if info is None or info.file_size != count * itemsize:
                raise CheckpointError(
                    f"promises {count} elements of {scalar} in record data/{key}, "
                    f"which {'is not there' if info is None else f'has {info.file_size} bytes'}"
                )
            empty = torch.empty(0, dtype=scalar)  # frombuffer refuses an empty buffer
            data = torch.frombuffer(self._bytes(info), dtype=scalar) if count else empty
            self.storages[key, scalar] = _Storage(data)
        return self.storages[key, scalar]


def _expect(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} where {kind.__name__} belongs")
    return value


def _expect_key(key: Any) -> Any:
    return _expect(key, str) if not isinstance(key, int) else key  # hashing a deeply nested tuple overflows the C stack


def _build(name: str, arguments: tuple[Any, ...]) -> Any:
    """What the three callables that ``torch.save`` names would return."""
    if name == _ORDERED_DICT and not arguments:
        return OrderedDict()
    if name == _TENSOR:
        return _tensor(*arguments)
    if name == _PARAMETER and len(arguments) == 3:
        return _expect(arguments[0], torch.Tensor)
    raise TypeError(f"{name} cannot be called with {len(arguments)} arguments")


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> torch.Tensor:
    """A view of ``storage``, once it is certain that it stays inside and names no element more often than there are."""
    data = _expect(storage, _Storage).data
    numbers = (offset, *_expect(size, tuple), *_expect(stride, tuple))
    if any(type(number) is not int or number < 0 for number in numbers) or len(size) != len(stride):
        raise CheckpointError(f"has a tensor of impossible offset {offset}, size {size} or stride {stride}")
    elements = 1
    for length in size:
        elements *= length
    if elements == 0:
        return data.new_empty(size)
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if last >= len(data) or elements > len(data):
        raise CheckpointError(
            f"has a tensor of offset {offset}, size {size} and stride {stride}, outside its {len(data)} elements"
        )
    return data.as_strided(size, stride, offset)
