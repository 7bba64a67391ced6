"""Small exported images, made by hand with tarfile: what an engine would write, down to its habits."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

DEFAULTS: dict[str, Any] = {"mode": 0o644, "mtime": 1_700_000_000}


def entry(name: str, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """One entry of a layer; ``fields`` are tarfile's (type, mode, uid, gid, linkname, mtime, pax_headers)."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in {**DEFAULTS, **fields}.items():
        setattr(info, key, value)
    return info, content


def layer(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def diff_id(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def configuration(layers: list[bytes], **changes: Any) -> dict[str, Any]:
    return {
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-11-25T22:44:26.302160861Z",
        "config": {"Hostname": "5f3a", "Env": ["LANG=C.UTF-8"], "Image": "sha256:77", "Labels": {"a": "b"}},
        "history": [
            {"created": "2026-11-25T22:44:26.3Z", "created_by": f"COPY layer {number}"} for number in range(len(layers))
        ],
        "rootfs": {"type": "layers", "diff_ids": [diff_id(data) for data in layers]},
        **changes,
    }


def docker_archive(path: Path, layers: list[bytes], **changes: Any) -> Path:
    """What `docker save` of 20.10 writes: a folder a layer, and a symbolic link for a layer that is there already."""
    config = json.dumps(configuration(layers, **changes)).encode()
    name = hashlib.sha256(config).hexdigest() + ".json"
    members: dict[str, tarfile.TarInfo | bytes] = {}
    first: dict[bytes, str] = {}
    for number, data in enumerate(layers):
        member = f"{number:064x}/layer.tar"
        if data in first:
            members[member] = link = tarfile.TarInfo(member)
            link.type, link.linkname = tarfile.SYMTYPE, f"../{first[data]}"
        else:
            members[member] = data
            first[data] = member
    manifest = [{"Config": name, "RepoTags": ["made:1"], "Layers": list(members)}]
    return _write(path, {**members, name: config, "manifest.json": json.dumps(manifest).encode()})


def oci_archive(path: Path, packed: list[bytes], layers: list[bytes]) -> Path:
    """An OCI layout; ``packed`` is what is stored for ``layers``. An attestation stands beside the image."""
    config = json.dumps(configuration(layers)).encode()
    manifest = json.dumps({"config": _descriptor(config), "layers": [_descriptor(data) for data in packed]}).encode()
    attestation = {**_descriptor(b"{}"), "platform": {"os": "unknown", "architecture": "unknown"}}
    image = {**_descriptor(manifest), "platform": {"os": "linux", "architecture": "amd64"}}
    index = json.dumps({"manifests": [image, attestation]}).encode()
    outer = json.dumps(
        {"manifests": [{**_descriptor(index), "annotations": {"io.containerd.image.name": "made:1"}}]}
    ).encode()
    blobs = {_blob(data): data for data in (*packed, config, manifest, index)}
    return _write(path, {"index.json": outer, **blobs})


def _descriptor(data: bytes) -> dict[str, Any]:
    return {"digest": diff_id(data), "size": len(data)}


def _blob(data: bytes) -> str:
    return "blobs/" + diff_id(data).replace(":", "/")


def _write(path: Path, members: dict[str, Any]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path
