"""RD311 to RD324: versions that pip installs without a word and that break this stack, each with its reason."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from racdino.doctor.check import Group, Problem, check
from racdino.doctor.environment.packages import install
from racdino.doctor.environment.subject import Environment, Installed
from racdino.doctor.finding import Severity


@dataclass(frozen=True)
class Trap:
    """One package whose wrong versions are known.

    Attributes:
        bites: whether an installed version is a wrong one.
        title: the healthy state. why: what breaks and where it was reported, for the page.
        error: what one then sees, for the finding.
        rare: only some uses break, so that it is no error in an environment that RacDINO did not make.
    """

    code: str
    package: str
    bites: Callable[[Installed], bool]
    title: str
    error: str
    why: str
    rare: bool = False


def _at_least(*release: int) -> Callable[[Installed], bool]:
    return lambda found: found.release >= release


def _below(*release: int) -> Callable[[Installed], bool]:
    return lambda found: found.release < release


def _always(found: Installed) -> bool:
    return True


TRAPS = (
    Trap(
        "RD311",
        "numpy",
        _at_least(1, 24),
        "numpy is older than 1.24",
        "`module 'numpy' has no attribute 'int'`",
        (
            "mmdet 2.28, mmdet3d 1.0.0rc6, nuscenes-devkit and lyft_dataset_sdk still say `np.int`, `np.bool` and "
            "`np.long`, which numpy 1.24 removed (mmdet3d#2821, #321), and numba 0.56.4 refuses it. With numpy 2, "
            "torch 2.0.0 cannot convert arrays at all (pytorch#107302)."
        ),
    ),
    Trap(
        "RD312",
        "setuptools",
        lambda found: (70,) <= found.release < (71,) or found.release >= (82,),
        "setuptools has what torch 2.0's builder imports from it",
        "`cannot import name 'packaging' from 'pkg_resources'`, or no `pkg_resources` at all",
        (
            "`torch.utils.cpp_extension` of torch 2.0.0 does `from pkg_resources import packaging`, which "
            "setuptools 70 does not have, and mmcv's `setup.py` imports `pkg_resources`, which setuptools 82 does "
            "not have (pytorch3d#1834, mmcv#3325)."
        ),
    ),
    Trap(
        "RD313",
        "yapf",
        _at_least(0, 40, 2),
        "yapf is older than 0.40.2",
        "`FormatCode() got an unexpected keyword argument 'verify'`",
        (
            "mmcv 1.6.0 formats every config with `FormatCode(..., verify=True)` when a run starts; yapf 0.40.2 "
            "took the argument away (mmdetection#10962). Going to a newer mmcv is no way on: mmdet3d 1.0.0rc6 "
            "asserts mmcv <= 1.7.0."
        ),
    ),
    Trap(
        "RD314",
        "protobuf",
        _at_least(4),
        "protobuf is older than 4",
        "`Descriptors cannot be created directly`",
        (
            "tensorboard 2.12 asks for protobuf >= 3.19.6 without an upper end, and generated code of that time "
            "fails with `Descriptors cannot be created directly` under newer runtimes (tensorboard#5708, "
            "mmdet3d#1525)."
        ),
        rare=True,
    ),
    Trap(
        "RD315",
        "pillow",
        _at_least(10),
        "Pillow is older than 10",
        "`module 'PIL.Image' has no attribute 'LINEAR'`",
        (
            "Pillow 10 removed `Image.LINEAR` and `Image.ANTIALIAS`, which code of this time uses "
            "(detectron2#5010, nuplan-devkit#349)."
        ),
        rare=True,
    ),
    Trap(
        "RD316",
        "shapely",
        _at_least(2),
        "shapely is older than 2",
        "`'MultiPolygon' object is not iterable`",
        (
            "The map code of nuscenes-devkit 1.1 iterates over a `MultiPolygon`, which shapely 2 does not allow "
            "(nuscenes-devkit#870, #1180, PETR#56)."
        ),
        rare=True,
    ),
    Trap(
        "RD317",
        "numba",
        lambda found: (found.release < (0, 56) and sys.version_info >= (3, 10)) or found.release >= (0, 58),
        "numba is of the 0.56 line",
        "`Numba needs NumPy 1.2x or less`",
        (
            "mmdet3d asks for numba 0.53.0, which has no file for Python 3.10; 0.56.4 is the last of its time and "
            "wants numpy < 1.24 (mmdet3d#2416, #321). Its llvmlite goes with it, 0.39.1."
        ),
        rare=True,
    ),
    Trap(
        "RD318",
        "networkx",
        lambda found: found.release < (2, 5) and sys.version_info >= (3, 9),
        "networkx is 2.5 or newer, on Python 3.9 or newer",
        "`cannot import name 'gcd' from 'fractions'`",
        (
            "mmdet3d asks for networkx < 2.3, which imports `gcd` from `fractions`, gone since Python 3.9 "
            "(mmdet3d#1343, #2092); scikit-image wants a newer one anyway (PETR#124)."
        ),
    ),
    Trap(
        "RD319",
        "mmcv",
        _always,
        "mmcv-full is the only mmcv",
        "two packages that own the folder `mmcv/`, the later without compiled ops",
        (
            "`mmcv` and `mmcv-full` install into the same folder and know nothing of each other: the one "
            "installed last wins, file by file, and uninstalling one breaks the other. mmcv 1.x without `-full` "
            "has no compiled ops (`No module named 'mmcv._ext'`), and mmcv 2 moved everything."
        ),
    ),
    Trap(
        "RD321",
        "xformers",
        lambda found: found.release >= (0, 0, 20) or found.release < (0, 0, 17),
        "xformers, where it is installed, is one for torch 2.0.0",
        "`WARNING[XFORMERS]: xFormers can't load C++/CUDA extensions`, or another torch in torch's place",
        (
            "xformers 0.0.20 asks for torch 2.0.1 and 0.0.22 for torch 2.0.1 or 2.1: installing it as the user's "
            "record advises (problem 4) silently replaces torch 2.0.0+cu118. 0.0.19 and 0.0.18 are the ones for "
            "2.0.0. Without xformers DINOv2 runs on torch's own attention."
        ),
    ),
    Trap(
        "RD322",
        "pycocotools",
        _below(2, 0, 7),
        "pycocotools is 2.0.7 or newer",
        "`numpy.ndarray size changed, may indicate binary incompatibility`",
        (
            "Older releases have no wheel for Python 3.10 and are compiled against whichever numpy is there at "
            "the time (mmdet3d#425)."
        ),
        rare=True,
    ),
    Trap(
        "RD324",
        "matplotlib",
        _at_least(3, 6),
        "matplotlib is older than 3.6",
        "nuscenes-devkit's drawing fails",
        "nuscenes-devkit 1.1.11 asks for matplotlib < 3.6 and draws with calls that later releases changed.",
        rare=True,
    ),
)


def _register(trap: Trap) -> None:
    def find(environment: Environment) -> Iterator[Problem]:
        found = environment.get(trap.package)
        if found is None or environment.get("torch") is None or not trap.bites(found) or environment.shadows(found):
            return
        pin = environment.pins.get(trap.package)
        instead = f"; the lock has {pin.version}" if pin else "; the locks do not have it"
        remedy = (
            f"`python -m pip install --no-deps {pin.name}=={pin.version}`"
            if pin
            else f"`python -m pip uninstall {trap.package}`, then `make setup`"
        )
        yield Problem(
            f"{trap.package} is {found.version}{instead}: {trap.error}",
            remedy,
            severity=Severity.OPTIONAL if trap.rare and environment.variant is None else Severity.ERROR,
            mend=install(environment, pin),
        )

    find.__doc__ = f"{trap.why}\n\nRead from the installed package's folder; nothing is imported."
    in_lock = trap.package != "mmcv"
    remedy = (
        f"install the locked {trap.package}: `make setup`"
        if in_lock
        else f"`python -m pip uninstall {trap.package}`, then `make setup`"
    )
    check(trap.code, Group.PACKAGES, trap.title, remedy=remedy, mends=in_lock)(find)


for _trap in TRAPS:
    _register(_trap)
