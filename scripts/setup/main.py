"""The command line of ``make setup``."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from racdino.environment.locks import LockError, read_header
from racdino.environment.manifest import NOTES
from racdino.environment.state import read_state
from scripts.setup.build import Builder
from scripts.setup.errors import SetupError
from scripts.setup.machine import choose_variant, find_compilers, require_headers, require_space
from scripts.setup.mutex import exclusive
from scripts.setup.plan import Plan, checkout_is_stale, why_environment_is_stale
from scripts.setup.progress import clock
from scripts.setup.tools import Tools, command_variables
from scripts.uv import UvError, cache_root, find_uv

ROOT = Path(__file__).resolve().parents[2]

# GiB, measured for cpu (environment 5.7, uv's cache 5.8, objects of mmcv-full 0.3); those for cu118 are estimates.
_ENVIRONMENT_GIB = {"cpu": 6.5, "cu118": 8.0}
_DOWNLOADS_GIB = {"cpu": 6.5, "cu118": 8.0}
_OBJECTS_GIB = {"cpu": 0.5, "cu118": 2.0}


def main(arguments: list[str]) -> int:
    """0 when .venv is as the locks and the checkout say."""
    parser = argparse.ArgumentParser(prog="scripts/bootstrap.sh", description="Make or update .venv.")
    parser.add_argument("--flash-attn", action="store_true", help="also compile flash-attn (hours; needs nvcc 11.8)")
    flash_attn = parser.parse_args(arguments).flash_attn or os.environ.get("FLASH_ATTN") == "1"
    signal.signal(signal.SIGTERM, _terminate)
    try:
        with exclusive(ROOT, "another setup holds this checkout, or a command that a killed one left behind") as lock:
            _make(flash_attn, lock)
    except (SetupError, UvError, LockError) as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsetup: interrupted; the next `make setup` continues from here.", file=sys.stderr)
        return 130
    return 0


def _terminate(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _make(flash_attn: bool, lock: int) -> None:
    started = time.monotonic()
    state = read_state(ROOT / ".venv")
    variant = choose_variant(os.environ.get("VARIANT"), state.variant if state else None)
    plan = Plan(ROOT, variant, flash_attn or bool(state and state.flash_attn and state.variant == variant))
    reason = why_environment_is_stale(plan, plan.prefix)
    name = f".venv ({plan.variant}{' with flash-attn' if plan.flash_attn else ''}, Python {platform.python_version()})"
    if reason is None and state and not checkout_is_stale(plan, state):
        print(f"{name} is up to date.")
        return
    builder = _builder(plan, lock)
    if reason is not None:
        _require_ours(plan.prefix)
        print(f"Making {name}: {reason}. Logs are in outputs/setup.", flush=True)
        _require_room(plan)
        builder.environment()
        state = read_state(plan.prefix)
    if state and checkout_is_stale(plan, state):
        builder.checkout(state)
    print(f"{name} is ready, after {clock(time.monotonic() - started)}.")


def _builder(plan: Plan, lock: int) -> Builder:
    settings = read_header(ROOT / "environment" / "build.lock")
    if plan.flash_attn and plan.variant == "cpu":
        raise SetupError("flash-attn needs an NVIDIA GPU: use VARIANT=cu118, or leave --flash-attn away.")
    require_headers()
    compilers = find_compilers(plan.variant, settings["nvcc"], int(settings["gcc-max"]))
    variables = command_variables([plan.root / ".venv.new", plan.prefix], compilers.cc, compilers.cxx)
    tools = Tools(find_uv(), ROOT / "outputs" / "setup", (lock,), variables)
    return Builder(plan, tools, compilers, cache_root())


def _require_ours(prefix: Path) -> None:
    """An environment that someone made by hand is not ours to replace."""
    if prefix.exists() and any(prefix.iterdir()) and not (prefix / NOTES).is_dir():
        raise SetupError(".venv was not made by `make setup`: move it away (mv .venv .venv.mine) and run it again.")


def _require_room(plan: Plan) -> None:
    uv_cache = os.environ.get("UV_CACHE_DIR")
    downloads = Path(uv_cache) if uv_cache else cache_root().parent / "uv"
    fetched = sum(1 for _ in downloads.glob("archive-v0/*")) > len(plan.pins()) // 2
    kept = (ROOT / ".venv.new").is_dir()
    require_space(
        {
            ROOT: 0.5 if kept else _ENVIRONMENT_GIB[plan.variant],
            downloads: 0.0 if fetched else _DOWNLOADS_GIB[plan.variant],
            cache_root(): _OBJECTS_GIB[plan.variant],
        }
    )
