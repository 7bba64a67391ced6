"""Read mmcv configs."""

from __future__ import annotations

import contextlib
import traceback
from pathlib import Path
from typing import Any

from mmcv import Config


class ConfigError(Exception):
    """A config could not be read; the message is one sentence that names the file."""


def read_config(path: Path) -> dict[str, Any]:
    """The config at ``path`` as plain nested dicts, its ``_base_`` files merged in.

    Raises:
        ConfigError: the file is missing, or running it raised anything.
    """
    if not path.is_file():
        raise ConfigError(f"There is no config at {path}.")
    try:
        config = Config.fromfile(str(path))
    except Exception as error:  # a config is a Python program: it can raise whatever it likes
        _close_temporary_files(error)
        raise ConfigError(f"{path} does not load: {type(error).__name__}: {_first_line(error)}.") from error
    return config._cfg_dict.to_dict()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0].rstrip(".")


def _close_temporary_files(error: Exception) -> None:
    """mmcv deletes the folder of its temporary copy before the copy, which then complains on stderr when collected."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        copy = frame.f_locals.get("temp_config_file")
        if copy is not None:
            with contextlib.suppress(FileNotFoundError):
                copy.close()
