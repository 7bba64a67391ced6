"""A base that was pulled and one that was bootstrapped end in the same packages: docker/install-debs sees to it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Image

from scripts.image.base import ensure_base
from scripts.image.build import build
from scripts.locking.table import read_table

pytestmark = [pytest.mark.container, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
LIST = ("dpkg-query", "--show", "--showformat", "${Package} ${Version} ${Architecture}\n")


@pytest.fixture
def other_base(image: Image) -> Iterator[str]:
    """What an official base differs in: some packages are missing, others are there that nobody asked for.

    No registry answers in CI, so an official one cannot be had there.
    """
    bootstrapped = ensure_base(image.engine, read_table(ROOT / "environment" / "pins.toml").image["base"]).name
    name, container = "racdino:test-other-base", f"racdino-test-base-{os.getpid()}"
    change = (
        "dpkg --purge ca-certificates openssl && "
        "mkdir -p /tmp/extra/DEBIAN && printf 'Package: nobody-asked\\nVersion: 1\\nArchitecture: all\\n"
        "Maintainer: nobody <nobody@example.org>\\nDescription: none\\n' >/tmp/extra/DEBIAN/control && "
        "dpkg-deb --build /tmp/extra /tmp/extra.deb && dpkg --install /tmp/extra.deb && rm -r /tmp/extra*"
    )
    engine = str(image.engine.path)
    subprocess.run([engine, "run", "--name", container, bootstrapped, "sh", "-ec", change], check=True)
    subprocess.run([engine, "commit", container, name], check=True, capture_output=True)
    subprocess.run([engine, "rm", container], check=True, capture_output=True)
    yield name
    subprocess.run([engine, "rmi", "--force", name], check=False, capture_output=True)


def test_both_routes_end_in_the_same_packages(image: Image, other_base: str, monkeypatch: pytest.MonkeyPatch):
    tag = "racdino:test-debian"
    monkeypatch.setenv("BASE", other_base)
    build(variant="cpu", target="debian", tag=tag, engine=image.engine)
    from_other = Image(image.engine, tag).succeeds(*LIST)
    subprocess.run([str(image.engine.path), "rmi", tag], check=True, capture_output=True)
    assert "nobody-asked" in Image(image.engine, other_base).succeeds(*LIST)
    assert from_other == image.succeeds(*LIST)
