"""Equal builds give equal bytes once normalised, and nothing but time and place is taken out of an image."""

from __future__ import annotations

import io
import json
import marshal
import shutil
import subprocess
import sys
import tarfile
from importlib.util import MAGIC_NUMBER
from pathlib import Path

import pytest
from archives import configuration, diff_id, docker_archive, entry, layer

from scripts.image.archive import Archive, Entry
from scripts.image.normalise import normalise

EPOCH = 1_600_000_000
DOCKER = Path("/usr/bin/docker")


def build(mtime: int, times: dict[str, str]) -> list[bytes]:
    return [
        layer(
            entry("opt/", type=tarfile.DIRTYPE, mode=0o755, mtime=mtime, pax_headers=times),
            entry("opt/tool", b"program", mode=0o4755, uid=3, gid=5, mtime=mtime, uname=f"user{mtime}"),
            entry("opt/twin", type=tarfile.LNKTYPE, linkname="opt/tool", mtime=mtime),
        ),
        layer(entry("opt/.wh.old", mtime=mtime + 1)),
    ]


def attributes(one: Entry) -> dict[str, str]:
    return {key: value for key, value in one.pax.items() if key.startswith("SCHILY.xattr.")}


def test_two_builds_at_other_times_give_the_same_bytes(tmp_path):
    outputs = []
    for number, (mtime, created) in enumerate(
        [(1_500_000_000, "2020-01-01T00:00:00Z"), (1_700_000_000, "2026-01-01T")]
    ):
        layers = build(mtime, {"atime": f"{mtime}.5", "ctime": f"{mtime}.25", "mtime": f"{mtime}.125"})
        changes = {"created": created, "container": str(number), "container_config": {"Hostname": str(number)}}
        source = docker_archive(tmp_path / f"{number}.tar", layers, **changes)
        digest = normalise(source, tmp_path / f"{number}.normal.tar", EPOCH)
        outputs.append((digest, (tmp_path / f"{number}.normal.tar").read_bytes()))
    assert outputs[0] == outputs[1]


def test_normalising_again_changes_nothing(tmp_path):
    source = docker_archive(tmp_path / "a.tar", build(5, {}))
    once, twice = tmp_path / "once.tar", tmp_path / "twice.tar"
    assert normalise(source, once, EPOCH) == normalise(once, twice, EPOCH)
    assert once.read_bytes() == twice.read_bytes()


def test_all_but_the_times_is_kept(tmp_path):
    xattr = {"SCHILY.xattr.security.capability": "\x01\udc80\udcff", "atime": "1.5"}
    long = "a" * 300
    layers = [
        layer(
            entry(f"deep/{long}", b"x", pax_headers=xattr, uid=3_000_000),
            entry("deep/pipe", type=tarfile.FIFOTYPE, mode=0o600),
            entry("deep/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
            entry("deep/alias", type=tarfile.SYMTYPE, linkname=long),
        )
    ]
    source = docker_archive(tmp_path / "a.tar", layers)
    target = tmp_path / "normal.tar"
    normalise(source, target, EPOCH)
    with Archive(source) as old, Archive(target) as new:
        before, after = old.read_layer(0).entries, new.read_layer(0).entries
    kept = [{**vars(one), "mtime": EPOCH, "pax": attributes(one)} for one in before]
    assert [{**vars(one), "pax": attributes(one)} for one in after] == kept
    assert all(one.pax.keys() <= {"hdrcharset", *attributes(one)} for one in after)  # the charset of such a value


def test_layers_that_become_equal_are_stored_once(tmp_path):
    layers = [layer(entry("a", b"1", mtime=1)), layer(entry("b")), layer(entry("a", b"1", mtime=2))]
    normalise(docker_archive(tmp_path / "a.tar", layers), tmp_path / "normal.tar", EPOCH)
    with tarfile.open(tmp_path / "normal.tar") as tar:
        assert len([name for name in tar.getnames() if name.endswith(".tar")]) == 2
    with Archive(tmp_path / "normal.tar") as archive:
        assert [archive.read_layer(i).entries[0].path for i in range(3)] == ["a", "b", "a"]


def test_the_configuration_names_no_machine_and_no_time_but_the_epoch(tmp_path):
    layers = build(5, {})
    changes = {
        "container": "77",
        "docker_version": "20.10.24",
        "container_config": {},
        "moby.buildkit.buildinfo.v1": "x",
    }
    digest = normalise(docker_archive(tmp_path / "a.tar", layers, **changes), tmp_path / "normal.tar", EPOCH)
    with tarfile.open(tmp_path / "normal.tar") as tar:
        manifest = json.load(tar.extractfile("manifest.json"))
        stored = tar.extractfile(manifest[0]["Config"]).read()
    assert digest == diff_id(stored)
    assert manifest[0]["RepoTags"] == ["made:1"]
    created = "2020-09-13T12:26:40Z"
    config = json.loads(stored)
    assert config.pop("rootfs")["diff_ids"] == [f"sha256:{name.removesuffix('.tar')}" for name in manifest[0]["Layers"]]
    history = [{"created": created, "created_by": step["created_by"]} for step in configuration(layers)["history"]]
    assert config == {
        "architecture": "amd64",
        "os": "linux",
        "created": created,
        "config": {"Env": ["LANG=C.UTF-8"], "Labels": {"a": "b"}},
        "history": history,
    }


def test_byte_code_checked_by_time_stays_valid(tmp_path):
    source = b"ANSWER = 42\n"
    code = marshal.dumps(compile("ANSWER = 'from the byte code'\n", "m.py", "exec"))
    stamp = (1_500_000_000).to_bytes(4, "little") + len(source).to_bytes(4, "little")
    layers = [
        layer(
            entry("m.py", source, mtime=1_500_000_000),
            entry("__pycache__/m.cpython-310.pyc", MAGIC_NUMBER + bytes(4) + stamp + code),
        )
    ]
    normalise(docker_archive(tmp_path / "a.tar", layers), tmp_path / "normal.tar", EPOCH)
    with tarfile.open(tmp_path / "normal.tar") as tar:
        data = tar.extractfile(next(m for m in tar if m.name.endswith(".tar"))).read()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        tar.extractall(tmp_path / "unpacked")
    cache = f"m.{sys.implementation.cache_tag}.pyc"
    (tmp_path / "unpacked/__pycache__/m.cpython-310.pyc").rename(tmp_path / "unpacked/__pycache__" / cache)
    command = [sys.executable, "-c", "import m; print(m.ANSWER)"]
    said = subprocess.run(command, cwd=tmp_path / "unpacked", capture_output=True, text=True, check=True).stdout
    assert said == "from the byte code\n"


def test_byte_code_checked_by_hash_is_left_alone(tmp_path):
    pyc = MAGIC_NUMBER + (1).to_bytes(4, "little") + b"8 bytes!" + b"code"
    normalise(docker_archive(tmp_path / "a.tar", [layer(entry("m.pyc", pyc))]), tmp_path / "normal.tar", EPOCH)
    assert pyc in (tmp_path / "normal.tar").read_bytes()


@pytest.mark.container
def test_the_engine_loads_a_normalised_image_under_the_id_that_was_given(tmp_path):
    if not DOCKER.exists() or subprocess.run([DOCKER, "info"], capture_output=True, check=False).returncode:
        pytest.skip("no docker engine answers here")

    def docker(*arguments: str, **options) -> str:
        answer = subprocess.run([DOCKER, *arguments], capture_output=True, check=True, **options)
        return answer.stdout.decode().strip()

    root = tmp_path / "root"
    root.mkdir()
    shutil.copy("/bin/true", root / "first")
    (root / "second").hardlink_to(root / "first")
    tag = f"racdino-test-normalise:{tmp_path.name}"
    archive = subprocess.run(["tar", "-C", root, "-c", "."], capture_output=True, check=True).stdout
    imported = docker("import", "-", tag, input=archive)
    try:
        docker("save", "--output", str(tmp_path / "a.tar"), tag)
        digest = normalise(tmp_path / "a.tar", tmp_path / "normal.tar", EPOCH)
        docker("load", "--input", str(tmp_path / "normal.tar"))
        assert docker("image", "inspect", "--format", "{{.Id}} {{.Created}}", tag) == f"{digest} 2020-09-13T12:26:40Z"
        docker("save", "--output", str(tmp_path / "again.tar"), tag)
        assert normalise(tmp_path / "again.tar", tmp_path / "again.normal.tar", EPOCH) == digest
        assert (tmp_path / "again.normal.tar").read_bytes() == (tmp_path / "normal.tar").read_bytes()
    finally:
        docker("image", "rm", tag, imported)  # loading took the tag off the imported one
