"""Load `racdino._C`, the compiled operator, or say in one sentence how to build it."""

from __future__ import annotations

import json
import os
import sys
import sysconfig
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import torch

from racdino.environment import extension_cache

PACKAGE = Path(__file__).resolve().parent.parent
LIBRARY = PACKAGE / f"_C{sysconfig.get_config_var('EXT_SUFFIX')}"
IMAGE_LIBRARY = Path("/opt/racdino/racdino") / LIBRARY.name
BUILD_COMMAND = "python setup.py build_ext --inplace"
_NAME = "racdino._C"


def load() -> None:
    """Import `racdino._C`, whose static initialisers define ``torch.ops.racdino``.

    Raises:
        ImportError: it is missing, or was built from other sources or for another torch.
    """
    spec = spec_from_file_location(_NAME, find())
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[_NAME] = module


def find() -> Path:
    """The compiled operator that fits these sources and this torch.

    In the image that is the image's own first: it also serves a checkout mounted there, whose operator, if it has one,
    was built on the machine outside, for another torch and C library.

    Raises:
        ImportError: there is none; the sentence is about the checkout's own.
    """
    if os.environ.get("RACDINO_IMAGE") and IMAGE_LIBRARY.is_file() and not _stale(IMAGE_LIBRARY):
        return IMAGE_LIBRARY
    where = f"run `{BUILD_COMMAND}` in {PACKAGE.parent}"
    if not LIBRARY.is_file():
        raise ImportError(f"racdino's compiled operator {LIBRARY.name} is missing: {where}.")
    if reason := _stale(LIBRARY):
        raise ImportError(f"racdino's compiled operator {LIBRARY.name} is stale ({reason}): {where}.")
    return LIBRARY


def built_with_cuda() -> bool:
    """Whether the loaded operator has its CUDA kernels."""
    facts = extension_cache.read_record(Path(str(sys.modules[_NAME].__file__)))["facts"]
    assert isinstance(facts, dict)
    return facts["nvcc"] is not None


def _stale(library: Path) -> str | None:
    try:
        facts = extension_cache.read_record(library)["facts"]
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        return f"no valid record {extension_cache.RECORD_NAME} beside it"
    assert isinstance(facts, dict)
    if facts["torch"] != torch.__version__:
        return f"built for torch {facts['torch']}, this is {torch.__version__}"
    if facts["sources"] != extension_cache.sources_digest(PACKAGE / "csrc"):
        return "racdino/csrc changed since"
    return None
