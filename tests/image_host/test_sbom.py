"""The bill of materials names all that is installed, validates, and has the same bytes for the same installation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

from racdino.environment.locks import LOCKS, normalised
from scripts.image.errors import ImageError
from scripts.image.installed import debian_edges, debian_packages

ROOT = Path(__file__).resolve().parents[2]
EPOCH = 1_600_000_000

STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u10
Depends: libgcc-s1, libcrypt1 (>= 1:4.4.10-10)

Package: libcrypt1
Status: install ok installed
Architecture: amd64
Version: 1:4.4.33-2
Depends: libc6 (>= 2.36)
Description: a field
 of two lines

Package: mawk
Status: install ok installed
Architecture: amd64
Version: 1.3.4-1
Pre-Depends: libc6:any (>= 2.36)
Provides: awk

Package: base-files
Status: install ok installed
Architecture: all
Version: 12.4
Depends: gawk | awk

Package: removed
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""
CRYPT_SHA = "c" * 64


@pytest.fixture
def made(tmp_path):
    """A small environment, dpkg's list and the locks of both."""
    prefix, locks = tmp_path / "venv", tmp_path / "locks"
    site = prefix / "lib/python3.10/site-packages"
    for name, version, lines in [
        ("Demo_App", "1.0", "Requires-Dist: demo-lib>=1\nRequires-Dist: absent; extra == 'more'\nLicense: see LICENSE"),
        ("demo-lib", "2.0", "Classifier: License :: OSI Approved :: MIT License\nLicense: MIT license text"),
        ("modern", "3.0", "License-Expression: MIT OR Apache-2.0"),
        ("racdino", "0.1.0", "Requires-Dist: demo-lib"),
    ]:
        folder = site / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{lines}\n")
    (prefix / "pyvenv.cfg").write_text("home = /opt/python/bin\nversion_info = 3.10.13\n")
    (tmp_path / "status").write_text(STATUS)
    locks.mkdir()
    (locks / "cpu.lock").write_text(
        f"demo-app==1.0 \\\n    --hash=sha256:{'a' * 64} \\\n    --hash=sha256:{'b' * 64}\n"
        f"demo-lib==2.0 --hash=sha256:{'d' * 64}\nmodern==2.9 --hash=sha256:{'e' * 64}\n"
    )
    (locks / "apt.lock").write_text(
        f"# release: bookworm\nbase libcrypt1 1:4.4.33-2 amd64 {CRYPT_SHA} 1 debian pool/libcrypt1.deb\n"
    )
    return prefix, tmp_path / "status", locks


def make(made, *, seed: str = "0", epoch: int = EPOCH) -> str:
    """The file that the command writes, in a Python of its own, so that the order of sets may differ."""
    pytest.importorskip("cyclonedx", reason="cyclonedx-python-lib is in the dev set, which is not installed here")
    prefix, status, locks = made
    output = status.parent / "sbom.json"
    options = ["--prefix", prefix, "--dpkg", status, "--locks", locks, "--epoch", str(epoch), "--output", output]
    command = [sys.executable, "-m", "scripts.image.sbom", *map(str, options)]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed}, check=True, capture_output=True)
    return output.read_text()


@pytest.fixture
def bom(made):
    return json.loads(make(made))


def test_every_installed_package_is_named_once(bom):
    assert sorted(one["purl"] for one in bom["components"]) == [
        "pkg:deb/debian/base-files@12.4?arch=all&distro=debian-12",
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64&distro=debian-12",
        "pkg:deb/debian/libcrypt1@1:4.4.33-2?arch=amd64&distro=debian-12",
        "pkg:deb/debian/mawk@1.3.4-1?arch=amd64&distro=debian-12",
        "pkg:generic/python@3.10.13",
        "pkg:pypi/demo-app@1.0",
        "pkg:pypi/demo-lib@2.0",
        "pkg:pypi/modern@3.0",
    ]
    assert bom["metadata"]["component"]["name"] == "racdino"
    assert bom["metadata"]["timestamp"] == "2020-09-13T12:26:40+00:00"


def test_the_hashes_are_those_that_the_lock_allows_for_this_version(bom):
    hashes = {
        one["name"]: [h["content"] for h in one["externalReferences"][0]["hashes"]]
        for one in bom["components"]
        if "externalReferences" in one
    }
    # `modern` is installed at another version than the locked one.
    assert hashes == {"demo-app": ["a" * 64, "b" * 64], "demo-lib": ["d" * 64], "libcrypt1": [CRYPT_SHA]}


def test_a_licence_is_given_where_the_metadata_states_one_plainly(bom):
    licences = {one["name"]: one.get("licenses") for one in bom["components"] if "pypi" in one["purl"]}
    assert licences == {
        "demo-app": None,
        "demo-lib": [{"license": {"id": "MIT"}}],
        "modern": [{"expression": "MIT OR Apache-2.0"}],
    }


def test_the_graph_follows_what_the_packages_ask_for(bom):
    names = {one["bom-ref"]: one["name"] for one in [*bom["components"], bom["metadata"]["component"]]}
    graph = {names[one["ref"]]: {names[ref] for ref in one.get("dependsOn", [])} for one in bom["dependencies"]}
    assert graph.pop("racdino") == {
        "python",
        "demo-app",
        "demo-lib",
        "modern",
        "base-files",
        "libc6",
        "libcrypt1",
        "mawk",
    }
    assert {name: needs for name, needs in graph.items() if needs} == {
        "demo-app": {"demo-lib"},
        "libc6": {"libcrypt1"},
        "libcrypt1": {"libc6"},
        "mawk": {"libc6"},
        "base-files": {"mawk"},
    }


def test_the_same_installation_gives_the_same_bytes(made):
    first = make(made, seed="1")
    assert make(made, seed="2") == first
    assert json.loads(make(made, epoch=EPOCH + 1))["serialNumber"] != json.loads(first)["serialNumber"]


def test_the_result_is_valid_cyclonedx_1_5_and_a_broken_one_is_seen(made):
    text = make(made)
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    validator = JsonStrictValidator(SchemaVersion.V1_5)
    assert json.loads(text)["specVersion"] == "1.5"
    assert validator.validate_str(text) is None
    assert validator.validate_str(text.replace('"library"', '"shelf"', 1)) is not None


def test_the_environment_that_runs_the_tests_is_listed_whole_with_its_locked_archives(made):
    bom = json.loads(make((Path(sys.prefix), made[1], LOCKS)))
    listed = {one["name"]: one for one in bom["components"] if one["purl"].startswith("pkg:pypi/")}
    assert listed.keys() == {normalised(one.metadata["Name"]) for one in distributions()} - {"racdino"}
    assert [name for name, one in listed.items() if "externalReferences" not in one] == []


def test_a_package_that_was_removed_is_not_installed(tmp_path):
    (tmp_path / "status").write_text(STATUS)
    assert sorted(debian_packages(tmp_path / "status")) == ["base-files", "libc6", "libcrypt1", "mawk"]


def test_an_alternative_and_a_provided_name_are_followed(tmp_path):
    (tmp_path / "status").write_text(STATUS)
    assert debian_edges(debian_packages(tmp_path / "status"))["base-files"] == {"mawk"}


def test_a_missing_list_of_packages_is_named(tmp_path):
    with pytest.raises(ImageError, match="dpkg"):
        debian_packages(tmp_path / "absent")
