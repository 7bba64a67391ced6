"""Which GPUs the compiled code in a shared object is for, read from the file itself: no CUDA tool, no GPU.

nvcc puts device code into the ELF sections ``.nv_fatbin`` and (before device linking) ``__nv_relfatbin``: containers,
one after the other, each a 16-byte header and then entries. An entry is a header, which names its kind and its GPU, and
a payload, usually compressed, which nothing here looks at. Standard library only.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from racdino.environment.manifest import NOTES

LIBRARIES = {  # what training runs on a GPU, by its path in a scan
    "torch": "*/torch/lib/libtorch_cuda.so",
    "racdino._C": "*racdino/_C.*so",
    "mmcv-full": "*/mmcv/_ext.*so",
    "spconv": "*/spconv/core_cc.*so",
    "xformers": "*/xformers/_C.so",
    "xformers flash": "*/xformers/_C_flashattention.so",
    "flash-attn": "*/flash_attn_2_cuda.*so",
}
NEEDED = ("torch", "racdino._C", "mmcv-full")  # without these a GPU is of no use
PROMISED = ("racdino._C", "mmcv-full")  # compiled by us, for the targets of environment/build.lock

_PACKAGE = Path(__file__).resolve().parents[1]
_SECTIONS = (b".nv_fatbin", b"__nv_relfatbin")
_MAGIC = 0xBA55ED50
_PTX, _CUBIN = 1, 2


class CubinError(ValueError):
    """A file whose device code cannot be read; the message names it."""


@dataclass(frozen=True)
class Targets:
    """Compute capabilities, ascending: ``cubins`` are machine code, ``ptx`` is compiled by the driver when loaded."""

    cubins: tuple[str, ...] = ()
    ptx: tuple[str, ...] = ()

    def __str__(self) -> str:
        """As in TORCH_CUDA_ARCH_LIST, ``8.0 9.0+PTX``; PTX that stands without machine code is ``9.0(PTX)``."""
        names = _ascending({*self.cubins, *self.ptx})
        marks = {name: "+PTX" if name in self.cubins else "(PTX)" for name in self.ptx}
        return " ".join(name + marks.get(name, "") for name in names) or "none"

    def accepts(self, capability: tuple[int, int]) -> bool:
        """Whether a GPU of this compute capability runs the code.

        Machine code runs on its own major version from its minor version on; PTX on every later GPU.
        """
        cubins = (_capability(name) for name in self.cubins)
        exact = any(major == capability[0] and minor <= capability[1] for major, minor in cubins)
        return exact or any(_capability(name) <= capability for name in self.ptx)


def targets(path: str | Path) -> Targets:
    """The GPU targets of one shared object; none when it holds no device code, or is no 64-bit ELF file.

    Raises:
        CubinError: the file ends, or its device code stops making sense, before all of it is read.
    """
    path = Path(path)
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size < 64 or file.read(6) != b"\x7fELF\x02\x01":
            return Targets()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                found = {entry for begin, end in _fatbin_sections(content) for entry in _entries(content, begin, end)}
            except struct.error as error:
                raise CubinError(f"{path} is damaged: it ends inside its tables; install it again.") from error
            except CubinError as error:
                raise CubinError(f"{path}: {error}") from error
    kinds = {kind: _ascending(_name(arch) for of, arch in found if of == kind) for kind in (_CUBIN, _PTX)}
    return Targets(kinds[_CUBIN], kinds[_PTX])


def scan(prefix: str | Path, package: Path = _PACKAGE) -> dict[str, Targets]:
    """Every shared object with device code below an environment's folder, by path relative to it.

    Args:
        package: the folder of racdino; its compiled operator is listed as ``racdino/_C...so`` where it lies outside
            ``prefix``, as in an editable installation.
    """
    prefix = Path(prefix).resolve()
    files = {path.relative_to(prefix).as_posix(): path for path in _shared_objects(prefix)}
    if prefix not in package.parents:
        files.update({f"racdino/{path.name}": path for path in package.glob("_C.*.so")})
    found = {name: targets(path) for name, path in sorted(files.items())}
    return {name: of for name, of in found.items() if of != Targets()}


def installed_targets(folders: Iterable[Path], package: Path = _PACKAGE) -> dict[str, Targets]:
    """The targets of those of `LIBRARIES` that are installed in site-packages folders, read from the files.

    A library that is there and has no device code, as a build for the CPU alone, is listed with no targets; one whose
    device code cannot be read is left out, since loading it fails too and says more.
    """
    folders = list(folders)
    found: dict[str, Targets] = {}
    for library, pattern in LIBRARIES.items():
        name = "torch/lib/libtorch_c*.so" if library == "torch" else pattern.partition("/")[2]  # a CPU build's is _cpu
        places = [package] if library == "racdino._C" else folders
        files = [path for folder in places for path in folder.glob(name)]
        try:
            each = [targets(path) for path in files]
        except (CubinError, OSError):
            continue
        if each:
            cubins = _ascending(arch for of in each for arch in of.cubins)
            found[library] = Targets(cubins, _ascending(arch for of in each for arch in of.ptx))
    return found


def path_of(prefix: str | Path) -> Path:
    """Where the list of an environment lies."""
    return Path(prefix) / NOTES / "cubins.json"


def write(prefix: str | Path, path: str | Path | None = None) -> Path:
    """Scan an environment and keep the list, in it or at ``path``; returns where."""
    path = Path(path or path_of(prefix))
    path.parent.mkdir(exist_ok=True)
    listed = {name: asdict(of) for name, of in scan(prefix).items()}
    path.write_text(json.dumps(listed, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return path


def read(prefix: str | Path) -> dict[str, Targets] | None:
    """The list that `write` left in an environment; None where there is none.

    Raises:
        CubinError: there is one and it is damaged.
    """
    path = path_of(prefix)
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        return {name: Targets(tuple(of["cubins"]), tuple(of["ptx"])) for name, of in listed.items()}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (json.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
        raise CubinError(f"{path} is damaged ({error!r}); `python -m racdino.environment.cubins` writes it.") from error


def by_library(listed: Mapping[str, Targets]) -> dict[str, Targets]:
    """The targets of those of `LIBRARIES` that are in a scan, by their names there."""
    return {
        library: of
        for library, pattern in LIBRARIES.items()
        for name, of in listed.items()
        if fnmatchcase(name, pattern)
    }


def lacking(listed: Mapping[str, Targets], arch_list: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """What the libraries that we compile lack of the promised targets, by library; empty when the promise is kept.

    Args:
        arch_list: as in environment/build.lock, e.g. ``["8.0", "9.0+PTX"]``; ``+PTX`` asks for both kinds of code.
    """
    present = by_library(listed)
    missing = {}
    for library in PROMISED:
        of = present.get(library, Targets())
        gaps = tuple(
            arch
            for arch in arch_list
            if arch.removesuffix("+PTX") not in of.cubins
            or (arch.endswith("+PTX") and arch.removesuffix("+PTX") not in of.ptx)
        )
        if gaps:
            missing[library] = gaps
    return missing


def _shared_objects(prefix: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(prefix):
        for name in names:
            path = Path(folder, name)
            if (name.endswith(".so") or ".so." in name) and path.is_file() and not path.is_symlink():
                yield path


def _fatbin_sections(content: mmap.mmap) -> Iterator[tuple[int, int]]:
    """(begin, end) of the sections with device code, by the ELF64 section header table."""
    (table,) = struct.unpack_from("<Q", content, 0x28)
    size, count, names_index = struct.unpack_from("<HHH", content, 0x3A)
    headers = [struct.unpack_from("<I20xQQ", content, table + i * size) for i in range(count)]
    if not headers:
        return
    _, names, _ = headers[names_index]
    for name, begin, length in headers:
        if any(content[names + name : names + name + len(known) + 1] == known + b"\0" for known in _SECTIONS):
            yield begin, begin + length


def _entries(content: mmap.mmap, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """(kind, arch) of every entry of every container between two offsets; zeros may stand between containers."""
    while (begin := content.find(struct.pack("<I", _MAGIC), begin, end)) >= 0:
        _, _, header, length = struct.unpack_from("<IHHQ", content, begin)
        entry, begin = begin + header, begin + header + length
        if header < 16 or begin > end:
            raise CubinError("a container of device code is longer than its section.")
        while entry < begin:
            kind, _, entry_header, payload, arch = struct.unpack_from("<HHIQ12xI", content, entry)
            if entry_header < 32 or not 10 <= arch < 10_000:
                raise CubinError("an entry of device code has no valid header.")
            yield kind, arch
            entry += entry_header + payload


def _name(arch: int) -> str:
    """90 -> ``9.0``, 120 -> ``12.0``."""
    return f"{arch // 10}.{arch % 10}"


def _capability(name: str) -> tuple[int, int]:
    major, minor = name.split(".")
    return int(major), int(minor)


def _ascending(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names), key=_capability))


def main(arguments: list[str]) -> int:
    """``python -m racdino.environment.cubins [PREFIX [FILE]]``: write the list, of this environment by default."""
    prefix, *path = arguments or [sys.prefix]
    listed = scan(prefix)
    print(f"{write(prefix, *path)}: {len(listed)} libraries with device code")
    for library, of in by_library(listed).items():
        print(f"{library:16}{of}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
