"""Read an exported image: `docker save`, `podman save`, or an OCI layout in a tar archive.

An image weighs gigabytes, so contents are streamed and hashed, never held. The archive must be a file: its manifest may
stand behind the layers that it names.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import posixpath
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from scripts.image.errors import ImageError

BLOCK = 1 << 20
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_TYPES = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.CONTTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symbolic link",
    tarfile.LNKTYPE: "hard link",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
    tarfile.FIFOTYPE: "fifo",
}
# What a pax header repeats of the entry's own fields; the rest (extended attributes) is kept apart.
_IN_FIELDS = {"path", "linkpath", "size", "uid", "gid", "uname", "gname", "mtime"}


@dataclass(frozen=True)
class Entry:
    """One entry of a layer. size in bytes, mtime in seconds since 1970; sha256 of the content, empty but for files."""

    path: str
    type: str
    mode: int
    uid: int
    gid: int
    size: int
    target: str
    sha256: str
    mtime: float
    pax: dict[str, str] = field(hash=False)


@dataclass(frozen=True)
class Layer:
    """A layer, uncompressed. diff_id: ``sha256:`` of its tar archive. size: bytes of its files. entries: in order."""

    diff_id: str
    size: int
    entries: tuple[Entry, ...]


class HashingReader:
    """A stream that hashes what is read from it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._digest = stream, hashlib.sha256()

    def read(self, size: int = BLOCK) -> bytes:
        """Up to ``size`` bytes of the stream."""
        block = self._stream.read(size)
        self._digest.update(block)
        return block

    def finish(self) -> str:
        """``sha256:`` of the whole stream, whose rest is read."""
        while self.read():
            pass
        return f"sha256:{self._digest.hexdigest()}"


class Archive:
    """An exported image, open for reading.

    config: the image's configuration. tags: the names that the archive gives it. layers: names of the members that hold
    them, lowest first.
    """

    def __init__(self, path: Path) -> None:
        """Raises ImageError: the file is no archive, or not of exactly one image."""
        self.path = path
        try:
            self._tar = tarfile.open(path, "r:")  # noqa: SIM115 (closed by __exit__)
            self._members = {posixpath.normpath(member.name): member for member in self._tar}
        except (OSError, tarfile.TarError) as error:
            raise ImageError(f"{path} is not a tar archive ({error}): export the image again.") from error
        if "manifest.json" in self._members:
            self.tags, config, self.layers = self._docker_manifest()
        elif "index.json" in self._members:
            self.tags, config, self.layers = self._oci_manifest()
        else:
            raise ImageError(f"{path} has neither manifest.json nor index.json: it is not an exported image.")
        self.config: dict[str, Any] = self._json(config)
        if len(self.layers) != len(self.config["rootfs"]["diff_ids"]):
            raise ImageError(f"{path}: the manifest and the configuration name different numbers of layers.")

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tar.close()

    def instructions(self) -> list[str]:
        """The instruction that made each layer, as far as the image's history tells."""
        made = [step.get("created_by", "") for step in self.config.get("history", []) if not step.get("empty_layer")]
        return [*made, *[""] * len(self.layers)][: len(self.layers)]

    @contextmanager
    def open_layer(self, index: int) -> Iterator[IO[bytes]]:
        """The uncompressed tar archive of one layer, as a stream."""
        with self._open(self.layers[index]) as stream:
            magic = stream.read(4)
            stream.seek(0)
            if magic == _ZSTD:
                raise ImageError(f"{self.path}: layer {index} is packed with zstd: export the image with docker save.")
            if magic[:2] == _GZIP:
                with gzip.GzipFile(fileobj=stream) as unpacked:
                    yield unpacked  # type: ignore[misc]
            else:
                yield stream

    def read_layer(self, index: int) -> Layer:
        """One layer with its entries.

        Raises:
            ImageError: it is damaged, or not the one that the image's configuration names.
        """
        try:
            with self.open_layer(index) as stream:
                layer = read_layer(stream)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise ImageError(f"{self.path}: layer {index} is damaged ({error}): export the image again.") from error
        named = self.config["rootfs"]["diff_ids"][index]
        if layer.diff_id != named:
            raise ImageError(f"{self.path}: layer {index} is {layer.diff_id} and the configuration says {named}.")
        return layer

    def _docker_manifest(self) -> tuple[list[str], str, list[str]]:
        images = self._json("manifest.json")
        if len(images) != 1:
            raise ImageError(f"{self.path} holds {len(images)} images: export one.")
        return images[0].get("RepoTags") or [], images[0]["Config"], images[0]["Layers"]

    def _oci_manifest(self) -> tuple[list[str], str, list[str]]:
        node, tags = self._json("index.json"), []
        while "manifests" in node:
            # An attestation is a manifest beside the image's, for no platform.
            images = [one for one in node["manifests"] if one.get("platform", {}).get("os") != "unknown"]
            if len(images) != 1:
                raise ImageError(f"{self.path} holds {len(images)} images: export one.")
            tags += [v for k, v in images[0].get("annotations", {}).items() if k == "io.containerd.image.name"]
            node = self._json(_blob(images[0]))
        return tags, _blob(node["config"]), [_blob(layer) for layer in node["layers"]]

    def _open(self, name: str) -> IO[bytes]:
        member = self._members.get(posixpath.normpath(name))
        try:
            stream = self._tar.extractfile(member) if member else None  # follows the links of old engines
        except KeyError:
            stream = None
        if stream is None:
            raise ImageError(f"{self.path} lacks {name}, which its manifest names: export the image again.")
        return stream

    def _json(self, name: str) -> Any:
        with self._open(name) as stream:
            return json.load(stream)


def read_layer(stream: IO[bytes]) -> Layer:
    """The entries of the uncompressed tar archive that ``stream`` gives, and its digest."""
    hashing = HashingReader(stream)
    with tarfile.open(fileobj=hashing, mode="r|", bufsize=BLOCK) as tar:  # type: ignore[call-overload]
        entries = tuple(_entry(tar, member) for member in tar)
    return Layer(hashing.finish(), sum(entry.size for entry in entries), entries)


def extra_headers(member: tarfile.TarInfo) -> dict[str, str]:
    """The pax headers that are not fields of every entry: extended attributes, and times beside the mtime."""
    return {key: member.pax_headers[key] for key in sorted(member.pax_headers) if key not in _IN_FIELDS}


def entry_type(member: tarfile.TarInfo) -> str:
    """The entry's type in words."""
    if member.issparse() or member.type not in _TYPES:
        raise ImageError(f"{member.name}: an entry of type {member.type!r} belongs in no image.")
    return _TYPES[member.type]


def _entry(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    kind = entry_type(member)
    digest = ""
    if kind == "file":
        content = tar.extractfile(member)
        assert content is not None
        digest = HashingReader(content).finish().removeprefix("sha256:")
    target = member.linkname
    if kind.endswith("device"):
        target = f"{member.devmajor}:{member.devminor}"
    return Entry(
        path=posixpath.normpath(member.name),
        type=kind,
        mode=member.mode & 0o7777,
        uid=member.uid,
        gid=member.gid,
        size=member.size if kind == "file" else 0,
        target=target,
        sha256=digest,
        mtime=member.mtime,
        pax=extra_headers(member),
    )


def _blob(descriptor: dict[str, Any]) -> str:
    return "blobs/" + descriptor["digest"].replace(":", "/")
