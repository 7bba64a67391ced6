"""RD301 to RD306: what is installed against the locks."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from racdino.doctor.check import Group, Problem, check
from racdino.doctor.environment.subject import Environment, Installed
from racdino.doctor.finding import Severity
from racdino.doctor.mend.plan import Run
from racdino.environment.locks import Pin

# The stack itself; what else the locks have serves it.
CORE = ("torch", "torchvision", "mmcv-full", "mmdet", "mmdet3d", "numpy")
RECORD = (*CORE, "mmsegmentation", "spconv-cu118", "cumm-cu118")  # what another's environment is held to
# Compiled here or downloaded by address: `make setup` makes these, pip would take something else.
MADE = frozenset(["torch", "torchvision", "mmcv-full", "mmdet3d", "flash-attn", "triton"])
_SHOWN = 6


@check(
    "RD301",
    Group.PACKAGES,
    "the packages of the lock are installed",
    remedy="`make setup`, then `source .venv/bin/activate`",
    mends=True,
)
def present(environment: Environment) -> Iterator[Problem]:
    """torch, mmcv-full, mmdet, mmdet3d and what they need, as `environment/build.lock` and the variant's lock name
    them. A plain system Python has none of them: the usual reason is a shell in which `.venv` was not activated.

    Read from the folders of the installed packages; nothing is imported. In an environment that RacDINO did not make,
    only the stack itself is asked for.
    """
    wanted = environment.pins if environment.variant else dict.fromkeys(RECORD)
    missing = [name for name in wanted if environment.get(name) is None and not _instead(environment, name)]
    core = [name for name in missing if name in CORE]
    if core:
        yield Problem(f"{sys.executable} has no {_listed([*core, *(name for name in missing if name not in CORE)])}")
        return
    for name in missing:
        pin = environment.pins.get(name)
        yield Problem(
            f"{name} {pin.version if pin else ''} is not installed".replace("  ", " "), mend=install(environment, pin)
        )


@check(
    "RD302",
    Group.PACKAGES,
    "every version is the locked one",
    remedy="`make setup`",
    mends=True,
)
def versions(environment: Environment) -> Iterator[Problem]:
    """Versions of this stack replace each other: one `pip install` of something new moves numpy or torch, and the rest
    fails later, elsewhere. The user's record lost days to it (problem 6). `environment/pins.toml` gives each version
    its reason.

    In an environment that RacDINO did not make, torch, torchvision, mmcv-full, mmdet, mmdet3d and spconv are held to
    the table, and a torch of the same release for another CUDA is left to the GPU's checks.
    """
    off = [(found, pin) for found, pin in _pairs(environment) if not _same(found, pin)]
    off = [(found, pin) for found, pin in off if environment.variant or found.name in RECORD]
    off = [(found, pin) for found, pin in off if not is_trap(environment, found.name)]
    for found, pin in off[:_SHOWN]:
        cause = f"{found.name} is {found.version}, the lock has {pin.version}"
        yield Problem(cause, f"`{_command(pin)}`" if pin.name not in MADE else "", mend=install(environment, pin))
    if off[_SHOWN:]:
        names = ", ".join(found.name for found, _ in off[_SHOWN:])
        yield Problem(f"{len(off) - _SHOWN} more are off the lock: {names}")


@check(
    "RD303",
    Group.PACKAGES,
    "every installed package is whole",
    remedy="`make setup`, or delete the named folder and install the package again",
)
def whole(environment: Environment) -> Iterator[Problem]:
    """pip renames a package to `~ame` before it replaces it. An installation that was interrupted leaves that folder,
    or a `.dist-info` without `METADATA`, and every later pip says `Ignoring invalid distribution`.
    """
    if environment.damaged_note:
        yield Problem(environment.damaged_note)
    for folder in _site_packages(environment):
        for entry in sorted(folder.iterdir()):
            if entry.name.startswith("~"):
                yield Problem(f"{entry} was left by an interrupted installation")
            elif entry.name.endswith(".dist-info") and entry.is_dir() and not (entry / "METADATA").is_file():
                yield Problem(f"{entry} has no METADATA")


@check(
    "RD304",
    Group.PACKAGES,
    "no package is installed twice",
    remedy="`python -m pip uninstall NAME` until it is gone, then `make setup`",
)
def once(environment: Environment) -> Iterator[Problem]:
    """conda and pip in one environment, or an installation that was interrupted, leave two `.dist-info` folders for one
    package. pip believes one, Python imports the files of the other.
    """
    for name, found in sorted(environment.distributions.items()):
        versions = sorted({item.version for item in found if item.folder.parent == found[0].folder.parent})
        if len(versions) > 1:
            yield Problem(f"{name} is installed as {' and as '.join(versions)} in {found[0].folder.parent}")


@check(
    "RD305",
    Group.PACKAGES,
    "nothing in the user's own site-packages comes in between",
    remedy="`export PYTHONNOUSERSITE=1`, or uninstall it there",
)
def user_site(environment: Environment) -> Iterator[Problem]:
    """`pip install --user` puts packages into `~/.local`, which every Python of the same version sees, environments
    with system packages and conda's among them. Such a numpy or torch hides the environment's, or stands in for what
    is missing.
    """
    for name in environment.pins:
        found = environment.get(name)
        if found and ".local" in found.folder.parts and environment.prefix not in found.folder.parents:
            yield Problem(f"{name} {found.version} is taken from {found.folder.parent}")


@check(
    "RD306",
    Group.PACKAGES,
    "the locks are at hand",
    remedy="run the doctor from RacDINO's checkout, or in the image",
    severity=Severity.OPTIONAL,
)
def locks(environment: Environment) -> Iterator[Problem]:
    """Versions are compared with `environment/*.lock` of RacDINO's checkout. Where only the wheel of racdino is
    installed, those files are not there, and versions cannot be checked.
    """
    if not environment.pins:
        yield Problem("environment/build.lock is not beside this racdino, so versions were not compared")


def install(environment: Environment, pin: Pin | None) -> Run | None:
    """Put the locked version in place; None where only `make setup` can, or pip is not there to do it."""
    if pin is None or pin.url or pin.name in MADE or environment.get("pip") is None:
        return None
    found = environment.get(pin.name)
    back = (f"{found.name}=={found.version}",) if found else ()
    command = (environment.python, "-m", "pip")
    undo = (
        (*command, "install", "--quiet", "--no-deps", *back)
        if back
        else (*command, "uninstall", "--quiet", "--yes", pin.name)
    )
    return Run((*command, "install", "--quiet", "--no-deps", f"{pin.name}=={pin.version}"), undo)


def is_trap(environment: Environment, name: str) -> bool:
    """Whether a wrong version of this package has a code of its own, and this one is such a version."""
    from racdino.doctor.environment.traps import TRAPS

    found = environment.get(name)
    return found is not None and any(trap.package == name and trap.bites(found) for trap in TRAPS)


def _pairs(environment: Environment) -> list[tuple[Installed, Pin]]:
    found = ((environment.get(name), pin) for name, pin in environment.pins.items())
    return [(installed, pin) for installed, pin in found if installed and not environment.shadows(installed)]


def _same(found: Installed, pin: Pin) -> bool:
    return found.version.split("+")[0] == pin.version.split("+")[0]


def _instead(environment: Environment, name: str) -> bool:
    """mmcv is mmcv-full under its later name; another spconv serves as well, and RD320 judges another OpenCV."""
    if name == "mmcv-full":
        return environment.get("mmcv") is not None
    if name == "opencv-python-headless":
        return any(other.startswith("opencv-") for other in environment.distributions)
    stem = name.partition("-")[0]
    return (stem in {"spconv", "cumm"} and not environment.variant) or name in {"pip", "wheel", "ninja", "xformers"}


def _site_packages(environment: Environment) -> list[Path]:
    folders = (Path(folder) for folder in environment.path if folder.endswith(("site-packages", "dist-packages")))
    return [folder for folder in folders if folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)]


def _command(pin: Pin) -> str:
    return f"python -m pip install --no-deps {pin.name}=={pin.version}"


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more packages of the lock"
