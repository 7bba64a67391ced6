"""What is read out of an exported image is what went in, for each form of export; a damaged one is named."""

from __future__ import annotations

import gzip
import hashlib
import tarfile
from pathlib import Path

import pytest
from archives import configuration, diff_id, docker_archive, entry, layer, oci_archive

from scripts.image.archive import Archive, Entry
from scripts.image.errors import ImageError


def one_layer() -> bytes:
    xattr = {"SCHILY.xattr.user.note": "kept"}
    return layer(
        entry("opt/", type=tarfile.DIRTYPE, mode=0o755),
        entry("opt/tool", b"program", mode=0o4755, uid=3, gid=5, mtime=9, pax_headers=xattr),
        entry("opt/twin", type=tarfile.LNKTYPE, linkname="opt/tool"),
        entry("opt/alias", type=tarfile.SYMTYPE, linkname="tool", mode=0o777),
    )


def test_every_field_of_an_entry_is_read(tmp_path):
    data = one_layer()
    with Archive(docker_archive(tmp_path / "a.tar", [data])) as archive:
        read = archive.read_layer(0)
    assert read.diff_id == diff_id(data)
    assert read.size == len(b"program")
    assert [(e.path, e.type, e.target) for e in read.entries] == [
        ("opt", "directory", ""),
        ("opt/tool", "file", ""),
        ("opt/twin", "hard link", "opt/tool"),
        ("opt/alias", "symbolic link", "tool"),
    ]
    digest = hashlib.sha256(b"program").hexdigest()
    xattr = {"SCHILY.xattr.user.note": "kept"}
    assert read.entries[1] == Entry("opt/tool", "file", 0o4755, 3, 5, 7, "", digest, 9, xattr)


def test_a_layer_that_an_old_engine_stored_as_a_link_is_found(tmp_path):
    data = one_layer()
    with Archive(docker_archive(tmp_path / "a.tar", [data, data])) as archive:
        assert archive.read_layer(1) == archive.read_layer(0)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_an_oci_layout_reads_as_the_docker_form_does(tmp_path, pack):
    data = one_layer()
    docker = docker_archive(tmp_path / "docker.tar", [data])
    oci = oci_archive(tmp_path / "oci.tar", [pack(data)], [data])
    with Archive(docker) as a, Archive(oci) as b:
        assert (a.read_layer(0), a.config, a.tags) == (b.read_layer(0), b.config, b.tags)


def test_instructions_skip_the_steps_that_made_no_layer(tmp_path):
    history = [{"created_by": "COPY a"}, {"created_by": "ENV b", "empty_layer": True}, {"created_by": "RUN c"}]
    path = docker_archive(tmp_path / "a.tar", [layer(entry("a")), layer(entry("c"))], history=history)
    with Archive(path) as archive:
        assert archive.instructions() == ["COPY a", "RUN c"]


def test_a_layer_that_is_not_the_named_one_is_refused(tmp_path):
    other = configuration([layer(entry("b"))])
    path = docker_archive(tmp_path / "a.tar", [layer(entry("a"))], rootfs=other["rootfs"])
    with Archive(path) as archive, pytest.raises(ImageError, match=r"layer 0 is sha256:.* and the configuration says"):
        archive.read_layer(0)


def test_a_layer_packed_with_zstd_is_named(tmp_path):
    path = oci_archive(tmp_path / "a.tar", [b"\x28\xb5\x2f\xfd packed"], [one_layer()])
    with Archive(path) as archive, pytest.raises(ImageError, match="zstd"):
        archive.read_layer(0)


@pytest.mark.parametrize("keep", [700, 5000], ids=["in a header", "in a layer"])
def test_a_cut_export_is_named(tmp_path, keep):
    whole = docker_archive(tmp_path / "a.tar", [layer(entry("a", b"x" * 20000))]).read_bytes()
    cut = tmp_path / "cut.tar"
    cut.write_bytes(whole[:keep])
    with pytest.raises(ImageError, match=r"cut\.tar"):
        Archive(cut)


@pytest.mark.parametrize("content", [b"", b"no archive", bytes(10240)], ids=["empty", "text", "empty archive"])
def test_a_file_that_is_no_exported_image_is_named(tmp_path: Path, content: bytes):
    path = tmp_path / "other.tar"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"other\.tar"):
        Archive(path)
