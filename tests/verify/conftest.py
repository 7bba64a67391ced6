"""The real camera frame where this machine has one, and the rendered one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from racdino.verify.frame import Frame
from racdino.verify.render import render_frame

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def real_frame_folder() -> Path:
    """$RACDINO_FRAME, or the folder that the project's shared material holds; neither is part of the project."""
    folder = Path(os.environ.get("RACDINO_FRAME", ROOT.parent / "shared" / "data" / "nuscenes-frame"))
    if not folder.is_dir():
        pytest.skip(f"no real camera frame: RACDINO_FRAME is not set and {folder} does not exist")
    return folder


@pytest.fixture(scope="session")
def rendered() -> Frame:
    return render_frame()
