"""The image under test: RACDINO_TEST_IMAGE, else the one built last. Without one, tests are skipped with the reason."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.image.engine import Engine, find_engine
from scripts.image.errors import ImageError

IMAGE = os.environ.get("RACDINO_TEST_IMAGE", "racdino:latest")
TIMEOUT = 600  # seconds
collect_ignore = ["inside"]  # runs in a container: test_contents.py


@dataclass(frozen=True)
class Image:
    """Runs commands in containers of the image, each removed at its end."""

    engine: Engine
    name: str

    def run(
        self, *arguments: str, options: Sequence[str] = (), timeout: float = TIMEOUT
    ) -> subprocess.CompletedProcess[str]:
        """``engine run OPTIONS IMAGE ARGUMENTS``, its output and status."""
        command = [str(self.engine.path), "run", "--rm", "--pull=never", *options, self.name, *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=timeout, stdin=subprocess.DEVNULL
        )

    def succeeds(self, *arguments: str, options: Sequence[str] = ()) -> str:
        """What a command prints, once it has ended with status 0."""
        answer = self.run(*arguments, options=options)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout


@pytest.fixture(scope="session")
def image() -> Image:
    try:
        engine = find_engine()
    except ImageError as error:
        pytest.skip(f"no container engine: {error}")
    if not engine.has_image(IMAGE):
        pytest.skip(f"there is no image {IMAGE}: `make image` builds it")
    return Image(engine, IMAGE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that a container of any user may be given: pytest's own are closed to others."""
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.getuid() and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o055)
    return tmp_path
