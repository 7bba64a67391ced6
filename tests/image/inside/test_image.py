"""Runs in a container of the image, as root so that nothing is hidden, with the image's own Python and pytest."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from racdino.environment import cubins, manifest
from racdino.environment.apt import parse_apt_lock
from racdino.environment.locks import parse_lock

PREFIX = Path("/opt/venv")
NOTES = PREFIX / manifest.NOTES
IMAGE = json.loads((NOTES / "image.json").read_text())


def files(*roots: str):
    """(path, lstat) of everything below, on this file system alone."""
    device = os.lstat("/").st_dev
    for root in roots:
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if Path(folder, name).lstat().st_dev == device]
            for name in (*folders, *names):
                path = Path(folder, name)
                yield path, path.lstat()


def test_every_python_file_is_what_its_archive_says():
    assert manifest.compare(PREFIX) == []


def test_installed_is_what_the_locks_name_and_no_more():
    locked = parse_lock(f"/opt/racdino/environment/{IMAGE['variant']}.lock")
    locked |= parse_lock("/opt/racdino/environment/build.lock")
    installed = manifest.installed_versions(PREFIX)
    del installed["racdino"]
    installed.pop("flash-attn", None)
    assert installed == {name: pin.version for name, pin in locked.items()}


def test_the_locks_inside_are_those_that_it_was_built_from():
    for name, digest in IMAGE["locks"].items():
        assert hashlib.sha256(Path("/opt/racdino/environment", name).read_bytes()).hexdigest() == digest


def test_debian_is_what_apt_lock_names_and_no_more():
    listed = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${Package} ${Version}\n"], capture_output=True, text=True, check=True
    ).stdout
    locked = parse_apt_lock(sets={"base", "runtime"})
    assert dict(line.split() for line in listed.splitlines()) == {deb.name: deb.version for deb in locked.values()}


def test_every_debian_file_is_as_packaged():
    """dpkg names what differs; what its own configuration leaves out of an installation does not count."""
    said = subprocess.run(["dpkg", "--verify"], capture_output=True, text=True, check=False).stdout
    left_out = re.compile(r"^missing +(c )?/usr/share/(doc|man|info|locale)/")
    assert [line for line in said.splitlines() if not left_out.match(line)] == []


def test_no_program_runs_with_anothers_rights():
    found = [path for path, status in files("/") if stat.S_ISREG(status.st_mode) and status.st_mode & 0o6000]
    assert found == []


def test_only_the_usual_places_can_be_written_by_all():
    found = {
        str(path) for path, status in files("/") if not stat.S_ISLNK(status.st_mode) and status.st_mode & stat.S_IWOTH
    }
    assert found <= {"/tmp", "/var/tmp", "/run/lock", "/outputs"}


def test_every_user_can_read_what_it_needs():
    needed = {stat.S_IFDIR: 0o005, stat.S_IFREG: 0o004}
    closed = [
        path
        for path, status in files("/opt")
        if (bits := needed.get(stat.S_IFMT(status.st_mode))) and status.st_mode & bits != bits
    ]
    assert closed == []


@pytest.mark.parametrize("program", ["gcc", "g++", "cc", "nvcc", "ptxas", "make", "uv", "pip-compile"])
def test_no_compiler_and_no_build_tool_is_left(program: str):
    assert shutil.which(program) is None


def test_nothing_of_the_build_is_left():
    for folder in ("/mnt", "/tmp", "/var/tmp", "/var/cache/apt", "/var/lib/apt/lists", "/var/log", "/root", "/srv"):
        left = [path for path, status in files(folder) if not stat.S_ISDIR(status.st_mode)]
        assert [path for path in left if path.name not in (".bashrc", ".profile")] == []
    endings = {".o", ".a", ".deb", ".whl"}
    left = [path for path, _ in files("/opt/racdino", "/opt/python") if path.suffix in endings]
    assert [path for path in left if "ensurepip" not in path.parts] == []  # Python's own copy of pip is two wheels
    assert not Path("/var/cache/racdino").exists()
    assert not Path("/run/secrets").exists()


def test_no_certificate_is_trusted_but_debians():
    """A build behind a company's proxy gets the proxy's certificate as a secret: it must not stay."""
    mark = "-----BEGIN CERTIFICATE-----"
    trusted = Path("/etc/ssl/certs/ca-certificates.crt").read_text().split(mark)[1:]
    shipped = "".join(path.read_text() for path in Path("/usr/share/ca-certificates").rglob("*.crt"))
    assert trusted
    assert [body for body in trusted if body.strip() not in shipped] == []


def test_no_private_key_is_inside():
    for folder in ("/etc", "/home", "/root", "/opt/racdino"):
        for path, status in files(folder):
            if stat.S_ISREG(status.st_mode) and status.st_size < 1 << 20:
                assert b"PRIVATE KEY-----" not in path.read_bytes(), path


def test_our_operator_carries_the_promised_gpu_targets():
    (library,) = Path("/opt/racdino/racdino").glob("_C.*.so")
    found = cubins.targets(library)
    promised = {target.removesuffix("+PTX") for target in IMAGE["arch-list"]}
    assert set(found.cubins) == promised
    if IMAGE["variant"] == "cu118":
        assert cubins.lacking(cubins.read(PREFIX), IMAGE["arch-list"]) == {}


def test_byte_code_is_there_and_carries_no_time():
    """Unchecked: flags 1 in the header, so that no start compares times, and no build differs by them."""
    code = list((PREFIX / "lib" / "python3.10" / "site-packages" / "torch").rglob("*.pyc"))
    assert len(code) > 1000
    for path in code[:50]:
        assert int.from_bytes(path.read_bytes()[4:8], "little") == 1


def test_this_python_is_the_images():
    assert sys.prefix == str(PREFIX)
    assert Path(sys.base_prefix) == Path("/opt/python")
    assert sys.version.split()[0] == IMAGE["python"]["version"]
