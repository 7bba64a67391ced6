"""Load `racdino._C`, the compiled operator, or say in one sentence how to build it."""

from __future__ import annotations

import importlib
import json
import sysconfig
from pathlib import Path

import torch

from racdino.environment import extension_cache

PACKAGE = Path(__file__).resolve().parent.parent
LIBRARY = PACKAGE / f"_C{sysconfig.get_config_var('EXT_SUFFIX')}"
BUILD_COMMAND = "python setup.py build_ext --inplace"


def load() -> None:
    """Import `racdino._C`, whose static initialisers define ``torch.ops.racdino``.

    Raises:
        ImportError: it is missing, or was built from other sources or for another torch.
    """
    where = f"run `{BUILD_COMMAND}` in {PACKAGE.parent}"
    if not LIBRARY.is_file():
        raise ImportError(f"racdino's compiled operator {LIBRARY.name} is missing: {where}.")
    if reason := _stale():
        raise ImportError(f"racdino's compiled operator {LIBRARY.name} is stale ({reason}): {where}.")
    importlib.import_module("racdino._C")


def _stale() -> str | None:
    try:
        facts = extension_cache.read_record(LIBRARY)["facts"]
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        return f"no valid record {extension_cache.RECORD_NAME} beside it"
    assert isinstance(facts, dict)
    if facts["torch"] != torch.__version__:
        return f"built for torch {facts['torch']}, this is {torch.__version__}"
    if facts["sources"] != extension_cache.sources_digest(PACKAGE / "csrc"):
        return "racdino/csrc changed since"
    return None
