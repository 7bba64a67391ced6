"""Behind ``python check_dinov2_setup.py``: imports, extension, configs, weights and data set."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path

from racdino.doctor import config_checks, optional
from racdino.doctor.extension import compiled, computes
from racdino.doctor.finding import Finding, Severity, report

FRAMEWORKS = ("torch", "torchvision", "mmcv", "mmdet", "mmdet3d")
ALIASES = (
    "models.backbones",
    "models.backbones.nets.dino_v2_with_adapter",
    "models.backbones.nets.dino_v2_with_adapter.dino_v2_adapter",
    "racdino.openmmlab",
)


def main(root: Path) -> int:
    """Run every check from the project root; return the exit status."""
    os.chdir(root)
    return report("check_dinov2_setup", setup_findings())


def setup_findings() -> Iterator[Finding]:
    """All checks, in the order in which one depends on the next."""
    yield from code_findings()
    yield from training_findings()


def code_findings() -> Iterator[Finding]:
    """What importing and building needs; the working directory is a checkout and on ``sys.path``."""
    for name in FRAMEWORKS:
        yield framework(name)
    yield compiled()
    yield computes()
    for alias in ALIASES:
        yield adapter_import(alias)
    yield registered()
    for path in (config_checks.BASELINE, config_checks.FIXED):
        yield config_checks.load("config.load", path)[0]


def training_findings() -> Iterator[Finding]:
    """What only training needs, looked for from the working directory."""
    yield optional.dinov2_weights()
    yield optional.resnet_weights()
    yield optional.data_set()


def framework(name: str) -> Finding:
    """Does the package import, and which version is it?"""
    try:
        module = importlib.import_module(name)
    except (ImportError, AssertionError) as error:  # mmdet and mmdet3d assert on the version of mmcv
        return Finding(f"import.{name}", Severity.ERROR, f"{type(error).__name__}: {error}", "make setup")
    return Finding(f"import.{name}", Severity.OK, module.__version__)


def adapter_import(alias: str) -> Finding:
    """Does ``from <alias> import DinoAdapter`` give the one class there is?"""
    try:
        found = importlib.import_module(alias).DinoAdapter
        from racdino.backbones import DinoAdapter
    except (ImportError, AttributeError, KeyError) as error:
        return Finding("import.DinoAdapter", Severity.ERROR, f"{alias}: {type(error).__name__}: {error}", "make setup")
    if found is not DinoAdapter:
        cause = f"{alias}.DinoAdapter is a second class, from {found.__module__}"
        return Finding("import.DinoAdapter", Severity.ERROR, cause, "delete the copy; import it from models.backbones")
    return Finding("import.DinoAdapter", Severity.OK, f"{alias} -> {DinoAdapter.__module__}")


def registered() -> Finding:
    """Does a config's ``type='DinoAdapter'`` mean this class?"""
    try:
        from racdino.openmmlab import DinoAdapter
        from racdino.openmmlab.registration import registered_backbone
    except (ImportError, AssertionError, KeyError) as error:
        return Finding("registry.DinoAdapter", Severity.ERROR, f"{type(error).__name__}: {error}", "make setup")
    if registered_backbone("DinoAdapter") is not DinoAdapter:
        cause = "another class is registered in mmdet's BACKBONES under this name"
        return Finding("registry.DinoAdapter", Severity.ERROR, cause, "import DinoAdapter from models.backbones")
    return Finding("registry.DinoAdapter", Severity.OK, "in mmdet's BACKBONES")
