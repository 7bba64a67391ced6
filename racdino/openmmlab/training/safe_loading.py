"""mmcv's own ways to load a file, without executing what it says."""

from __future__ import annotations

from typing import Any

from mmcv.runner import CheckpointLoader

from racdino.weights import existing_file
from racdino.weights.checkpoint import read_checkpoint


def read_safely() -> None:
    """Have ``mmcv.runner.load_checkpoint`` read local files by our reader: ``init_cfg``, hooks, the user's own code."""
    CheckpointLoader.register_scheme(prefixes="", loader=_read, force=True)


def _read(filename: str, map_location: Any = None) -> Any:
    """What ``torch.load`` would return, on the CPU; mmcv copies it to where the model is."""
    return read_checkpoint(existing_file(filename))
