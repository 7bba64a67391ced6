"""What is in the image, seen from inside: tests/image/inside runs in a container, with the image's own pytest."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from conftest import Image

pytestmark = pytest.mark.container
INSIDE = Path(__file__).with_name("inside")


def test_what_is_inside(image: Image):
    options = [
        *("--mount", f"type=bind,source={INSIDE},target=/inside,readonly", "--user", "0:0", "--network", "none"),
        *("--workdir", "/inside", "--entrypoint", "/opt/venv/bin/python"),
    ]
    answer = image.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "/inside", options=options)
    print(answer.stdout)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert re.search(r"\d+ passed", answer.stdout)


def test_labels_and_info_say_the_same(image: Image):
    info = json.loads(image.succeeds("info", "--json"))
    labels = inspect(image)["Config"]["Labels"]
    assert labels["org.opencontainers.image.revision"] == info["image"]["revision"]
    assert labels["org.racdino.variant"] == info["image"]["variant"]
    for name, digest in info["image"]["locks"].items():
        assert labels[f"org.racdino.lock.{name}"] == digest
    assert info["sbom"]["bomFormat"] == "CycloneDX"


def test_nothing_of_the_build_is_in_history_or_environment(image: Image):
    """A proxy's CA bundle, an address with a password, the builder's own variables."""
    config = json.dumps(inspect(image)["Config"])
    command = [str(image.engine.path), "history", "--no-trunc", "--format", "{{.CreatedBy}}", image.name]
    history = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert not re.search(r"https?://[^/\s]*:[^/\s]*@", config + history)
    assert "SSL_CERT_FILE" not in config
    if bundle := os.environ.get("SSL_CERT_FILE"):
        assert bundle not in config


def test_the_image_is_no_larger_than_its_budget(image: Image):
    from scripts.image.size import main

    assert main([image.name]) == 0


def inspect(image: Image) -> dict:
    return json.loads(image.engine.output(["image", "inspect", image.name]))[0]
