"""What the environment should be, from the locks and the checkout, and how far it is from that."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from racdino.environment import extension_cache
from racdino.environment.locks import Pin, digest, parse_lock
from racdino.environment.manifest import installed_versions
from racdino.environment.state import State, read_state

# Compiled here: no wheel in the registry fits, and their setup.py imports torch.
COMPILED = ("mmcv-full", "mmdet3d", "flash-attn")


@dataclass(frozen=True)
class Plan:
    """The wanted state of a checkout's environment."""

    root: Path
    variant: str
    flash_attn: bool

    @property
    def prefix(self) -> Path:
        return self.root / ".venv"

    @property
    def fresh(self) -> Path:
        """Where it is made, before it takes the place of an older one."""
        return self.root / ".venv.new"

    @property
    def locks(self) -> tuple[str, ...]:
        """The locks that are installed, in the order in which they are."""
        return ("build.lock", f"{self.variant}.lock", "dev.lock", *(["flash-attn.lock"] if self.flash_attn else []))

    def pins(self) -> dict[str, Pin]:
        """Every package to install."""
        pins: dict[str, Pin] = {}
        for lock in self.locks:
            pins |= parse_lock(self.root / "environment" / lock)
        return pins

    def lock_digests(self) -> dict[str, str]:
        return {lock: digest(self.root / "environment" / lock) for lock in self.locks}

    def project_digest(self) -> str:
        """Of what the editable installation is made from; a moved checkout is another one."""
        parts = [(self.root / name).read_bytes() for name in ("pyproject.toml", "setup.py", "racdino/__init__.py")]
        return hashlib.sha256(b"\0".join([*parts, os.fsencode(self.root)])).hexdigest()

    def extension_digest(self) -> str:
        return extension_cache.sources_digest(self.root / "racdino" / "csrc", extra=[self.root / "setup.py"])

    def extension_file(self) -> Path:
        return self.root / "racdino" / f"_C{sysconfig.get_config_var('EXT_SUFFIX')}"

    def wanted_state(self, packages: dict[str, str], wheels: dict[str, str]) -> State:
        """The state that a finished setup of this plan records."""
        return State(
            variant=self.variant,
            flash_attn=self.flash_attn,
            python=platform.python_version(),
            locks=self.lock_digests(),
            packages=packages,
            wheels=wheels,
            project=self.project_digest(),
            extension=self.extension_digest(),
        )


@dataclass(frozen=True)
class ImagePlan(Plan):
    """The environment of an image: made where it stays, and without the tools of development."""

    @property
    def prefix(self) -> Path:
        return Path(sys.prefix)

    @property
    def fresh(self) -> Path:
        return self.prefix

    @property
    def locks(self) -> tuple[str, ...]:
        return tuple(lock for lock in super().locks if lock != "dev.lock")


def why_environment_is_stale(plan: Plan, prefix: Path) -> str | None:
    """Why the packages in ``prefix`` must be installed anew; None when they are the planned ones."""
    state = read_state(prefix)
    if state is None:
        return "there is no finished environment"
    if (state.variant, state.flash_attn) != (plan.variant, plan.flash_attn):
        return f"it is for {state.variant}{' with flash-attn' if state.flash_attn else ''}"
    if state.python != platform.python_version() or not (prefix / "bin" / "python").exists():
        return f"it was made with Python {state.python}"
    changed = [lock for lock, value in plan.lock_digests().items() if state.locks.get(lock) != value]
    if changed:
        return f"{', '.join(changed)} changed"
    installed = installed_versions(prefix)
    differing = [name for name, version in state.packages.items() if installed.get(name) != version]
    if differing:
        return f"{', '.join(differing[:3])} is not as installed"
    return None


def checkout_is_stale(plan: Plan, state: State) -> bool:
    """Whether our own package must be installed or compiled again."""
    library = plan.extension_file()
    if (state.project, state.extension) != (plan.project_digest(), plan.extension_digest()):
        return True
    recorded = extension_cache.record_path(library).is_file()
    return not (library.is_file() and recorded and extension_cache.matches_record(library))
