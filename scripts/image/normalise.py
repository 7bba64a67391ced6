"""Rewrite an exported image so that equal builds give equal bytes, on engines that ignore SOURCE_DATE_EPOCH too.

Every time is set to the given epoch, older ones as well: a fresh clone and a working checkout differ in the mtimes of
files that no build touched, and `podman build --timestamp` sets all of them too. Byte code that is checked by time
names its source's mtime in its header; that is set along, so that it stays valid. Entries keep their order: engines
walk a layer's folder sorted, and a hard link must stand behind its target.

Left out: times beside the mtime, owner names (engines use the numbers), and of the configuration what names the machine
or the run that made it. Layers stay uncompressed, in the form that `docker load` and `podman load` read.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

from scripts.image.archive import BLOCK, Archive, entry_type, extra_headers
from scripts.image.errors import ImageError

_KEPT = ("architecture", "variant", "os", "author", "config", "rootfs", "history")
_VOLATILE = ("Hostname", "Domainname", "Image")
_XATTR = "SCHILY.xattr."
_PYC_HEADER = 16


def normalise(source: Path, target: Path, epoch: int) -> str:
    """Write the image in ``source`` to ``target`` with every time at ``epoch`` (seconds since 1970).

    Returns:
        The image's id: ``sha256:`` of its configuration.
    Raises:
        ImageError: ``source`` is not an exported image, or is damaged.
    """
    partial = target.with_name(target.name + ".new")
    with Archive(source) as archive, partial.open("w+b") as output:
        diff_ids: list[str] = []
        for index in range(len(archive.layers)):
            diff_id = _write_layer(archive, index, output, epoch, known=set(diff_ids))
            diff_ids.append(diff_id)
        config = _encode(_config(archive.config, diff_ids, epoch))
        digest = hashlib.sha256(config).hexdigest()
        manifest = {"Config": f"{digest}.json", "RepoTags": archive.tags, "Layers": [_layer_name(i) for i in diff_ids]}
        _write_member(output, f"{digest}.json", config)
        _write_member(output, "manifest.json", _encode([manifest]))
        output.write(bytes(2 * tarfile.BLOCKSIZE))
    partial.replace(target)
    return f"sha256:{digest}"


class _HashingWriter:
    """A file that hashes and counts what is written to it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self.digest, self.size = stream, hashlib.sha256(), 0

    def write(self, block: bytes) -> int:
        self.digest.update(block)
        self.size += len(block)
        return self._stream.write(block)


def _write_layer(archive: Archive, index: int, output: IO[bytes], epoch: int, known: set[str]) -> str:
    """Append one layer and return its diff id; a layer that is there already is not written twice."""
    start = output.tell()
    output.write(bytes(tarfile.BLOCKSIZE))  # the header, written once name and size are known
    writer = _HashingWriter(output)
    try:
        with archive.open_layer(index) as stream:
            _rewrite(stream, writer, epoch)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ImageError(f"{archive.path}: layer {index} could not be rewritten ({error}).") from error
    diff_id = f"sha256:{writer.digest.hexdigest()}"
    if diff_id in known:
        output.seek(start)
        output.truncate()
        return diff_id
    output.write(bytes(-writer.size % tarfile.BLOCKSIZE))
    end = output.tell()
    output.seek(start)
    output.write(_header(_layer_name(diff_id), writer.size))
    output.seek(end)
    return diff_id


def _rewrite(stream: IO[bytes], writer: _HashingWriter, epoch: int) -> None:
    with (
        tarfile.open(fileobj=stream, mode="r|", bufsize=BLOCK) as old,
        tarfile.open(  # type: ignore[call-overload]
            fileobj=writer, mode="w|", bufsize=BLOCK, format=tarfile.PAX_FORMAT, copybufsize=BLOCK
        ) as new,
    ):
        for member in old:
            content = old.extractfile(member) if entry_type(member) == "file" else None
            if content is not None and member.name.endswith(".pyc"):
                content = io.BytesIO(_dated(content.read(), epoch))
            new.addfile(_member(member, epoch), content)


def _member(old: tarfile.TarInfo, epoch: int) -> tarfile.TarInfo:
    new = tarfile.TarInfo(old.name)
    new.type, new.linkname, new.mode = old.type, old.linkname, old.mode
    new.uid, new.gid, new.mtime = old.uid, old.gid, epoch
    new.devmajor, new.devminor = old.devmajor, old.devminor
    new.size = old.size if old.isfile() else 0
    new.pax_headers = {key: value for key, value in extra_headers(old).items() if key.startswith(_XATTR)}
    return new


def _dated(pyc: bytes, epoch: int) -> bytes:
    """Byte code whose source's mtime, where its header holds one (PEP 552: no flag is set), is ``epoch``."""
    if len(pyc) < _PYC_HEADER or pyc[4:8] != bytes(4):
        return pyc
    return pyc[:8] + (epoch & 0xFFFFFFFF).to_bytes(4, "little") + pyc[12:]


def _config(old: dict[str, Any], diff_ids: list[str], epoch: int) -> dict[str, Any]:
    created = datetime.fromtimestamp(epoch, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    new = {key: old[key] for key in _KEPT if key in old}
    new["created"] = created
    new["config"] = {key: value for key, value in old.get("config", {}).items() if key not in _VOLATILE}
    new["history"] = [{**step, "created": created} for step in old.get("history", [])]
    new["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
    return new


def _layer_name(diff_id: str) -> str:
    return diff_id.removeprefix("sha256:") + ".tar"


def _encode(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)  # in one block, at any size


def _write_member(output: IO[bytes], name: str, content: bytes) -> None:
    output.write(_header(name, len(content)) + content + bytes(-len(content) % tarfile.BLOCKSIZE))
