"""A bundle is checked file by file before the engine gets it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from scripts.image import bundle
from scripts.image.base import Base
from scripts.image.bundle import Bundle
from scripts.image.errors import ImageError
from scripts.image.seed import Seed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small bundle whose sums are right."""
    folder = tmp_path / "bundle"
    for part in ("debs", "python", "seed"):
        (folder / part).mkdir(parents=True)
    (folder / "debs" / "a.deb").write_text("deb")
    (folder / "python" / "a.whl").write_text("wheel")
    (folder / "base.tar").write_text("base")
    (folder / "variant").write_text("cpu\n")
    (folder / "seed" / "origin").write_text("host 3.10.1\n")
    subprocess.run(["tar", "-cf", "seed.tar", "-C", "seed", "origin"], cwd=folder, check=True)
    shutil.rmtree(folder / "seed")
    names = ["base.tar", "debs/a.deb", "python/a.whl", "seed.tar", "variant"]
    sums = subprocess.run(["sha256sum", *names], cwd=folder, capture_output=True, check=True).stdout
    (folder / "SHA256SUMS").write_bytes(sums)
    return folder


def test_a_bundle_is_handed_to_the_engine_once_under_the_name_of_its_sums(client, folder, calls):
    key = hashlib.sha256((folder / "SHA256SUMS").read_bytes()).hexdigest()[:12]
    for _ in range(2):
        assert bundle.open_bundle(client, folder, "cpu") == Bundle(
            f"racdino-bundle:bundle-{key}",
            Base(f"racdino-base:bundle-{key}", "bootstrapped"),
            Seed(f"racdino-seed:bundle-{key}", "host", "3.10.1"),
        )
    assert len([call for call in calls() if call[0] == "import"]) == 3


def test_an_engine_that_does_not_take_a_bundle_is_one_sentence(client, folder):
    (folder / "debs" / "b.deb").write_bytes(b"0" * 1_000_000)  # more than a pipe holds
    refusing = client.path.read_text().replace('"import "*)', '"import "*) [ "$2" != - ] || exit 1;')
    client.path.write_text(refusing)
    with pytest.raises(ImageError, match=r"`docker import` of .*/bundle failed"):
        bundle.open_bundle(client, folder, "cpu")


@pytest.mark.parametrize("missing", ["SHA256SUMS", "variant"])
def test_an_unfinished_bundle_is_refused(client, folder, calls, missing):
    (folder / missing).unlink()
    with pytest.raises(ImageError, match=rf"is no finished bundle \({missing} is missing\): `invoke bundle` makes one"):
        bundle.open_bundle(client, folder, "cpu")
    assert calls() == []


@pytest.mark.parametrize("damage", ["altered", "gone"])
def test_a_damaged_bundle_names_the_file(client, folder, calls, damage):
    if damage == "gone":
        (folder / "python" / "a.whl").unlink()
    else:
        (folder / "python" / "a.whl").write_text("altered")
    with pytest.raises(ImageError, match=r"is damaged \([^\n]*python/a\.whl[^\n]*\): copy it again"):
        bundle.open_bundle(client, folder, "cpu")
    assert calls() == []


def test_a_bundle_of_the_other_variant_names_both(client, folder, calls):
    with pytest.raises(ImageError, match=r"holds the files of cpu, not of cu118: build with --variant cpu, or"):
        bundle.open_bundle(client, folder, "cu118")
    assert calls() == []
