"""What docker/Dockerfile asks of set-up: the wheels that are compiled, and the proof of the finished environment.

    python -m scripts.setup.image wheel NAME OUTPUT       finish WHEELS ...       add-dev

Runs in the image's environment. VARIANT names the variant, XDG_CACHE_HOME the folder in which wheels are kept.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from racdino.environment import manifest
from racdino.environment.hashing import sha256
from racdino.environment.locks import LockError, digest, normalised, read_header
from racdino.environment.state import read_state, write_state
from scripts.setup.build import Builder
from scripts.setup.errors import SetupError
from scripts.setup.machine import choose_variant, find_compilers
from scripts.setup.plan import ImagePlan
from scripts.setup.tools import Tools, command_variables
from scripts.uv import cache_root

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: list[str]) -> int:
    """0 when the wheel, or the proof, is there."""
    plan = ImagePlan(ROOT, choose_variant(os.environ.get("VARIANT"), None), flash_attn="flash-attn" in arguments)
    try:
        if arguments[0] == "wheel":
            name, output = arguments[1:]
            wheel(plan, name, Path(output))
        elif arguments[0] == "add-dev":
            add_dev(plan)
        else:
            finish(plan, [Path(folder) for folder in arguments[1:]])
    except (SetupError, LockError, manifest.ManifestError) as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    return 0


def wheel(plan: ImagePlan, name: str, output: Path) -> None:
    """Put the wheel of one compiled package into ``output``."""
    settings = read_header(plan.root / "environment" / "build.lock")
    compilers = find_compilers(plan.variant, settings["nvcc"], int(settings["gcc-max"]))
    variables = command_variables([plan.prefix], compilers.cc, compilers.cxx)
    # There is no uv in the stages that compile, and nothing to install there.
    builder = Builder(plan, Tools(Path("uv"), output / "log", (), variables), compilers, cache_root())
    made = builder.wheel(name)
    output.mkdir(parents=True, exist_ok=True)
    shutil.copy(made.path, output)


def finish(plan: ImagePlan, folders: list[Path]) -> None:
    """Prove every file of the environment and note what it was made from."""
    wheels = {
        normalised(path.name.partition("-")[0]): sha256(path) for folder in folders for path in folder.glob("*.whl")
    }
    plan = ImagePlan(plan.root, plan.variant, flash_attn="flash-attn" in wheels)
    compiled = {name: digest for name, digest in wheels.items() if name != "racdino"}
    manifest.record(plan.prefix, plan.locks, compiled)
    write_state(plan.prefix, plan.wanted_state(manifest.installed_versions(plan.prefix), compiled))


def add_dev(plan: ImagePlan) -> None:
    """Prove the environment again, once the tools of dev.lock are in it."""
    before = read_state(plan.prefix)
    assert before is not None  # the stage below wrote it
    locks = (*before.locks, "dev.lock")
    manifest.record(plan.prefix, locks, before.wheels)
    digests = {lock: digest(plan.root / "environment" / lock) for lock in locks}
    packages = manifest.installed_versions(plan.prefix)
    write_state(plan.prefix, replace(before, locks=digests, packages=packages))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
