"""RD320 and RD323: packages of different names that install into one folder."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator

from racdino.doctor.check import Group, Problem, check
from racdino.doctor.environment.subject import Environment
from racdino.doctor.finding import Severity

_OPENCV = re.compile(r"opencv(-contrib)?-python(-headless)?$")
_SPCONV = (re.compile(r"spconv(-cu[0-9]+)?$"), re.compile(r"cumm(-cu[0-9]+)?$"))


@check(
    "RD320",
    Group.PACKAGES,
    "there is one OpenCV, and it loads without a display",
    remedy="`python -m pip uninstall opencv-python opencv-contrib-python opencv-python-headless`, then `make setup`",
)
def opencv(environment: Environment) -> Iterator[Problem]:
    """`opencv-python`, `opencv-python-headless` and their `contrib` variants share the folder `cv2/`: with two of them
    the one installed last wins, and uninstalling either leaves nothing that imports. The ones with windows need
    `libGL.so.1`, which containers and servers lack: `ImportError: libGL.so.1: cannot open shared object file`
    (mmdetection#3645, Open3D#2362).

    The installed packages are listed; whether libGL is there is asked only where it is needed. One OpenCV with windows
    on a machine with libGL is no error.
    """
    names = _installed(environment, _OPENCV)
    if len(names) > 1:
        yield Problem(f"{' and '.join(names)} are installed, and share the folder cv2/")
    elif names and not names[0].endswith("-headless"):
        if not _loads("libGL.so.1"):
            yield Problem(f"{names[0]} is installed and needs libGL.so.1, which is not here")
        elif environment.variant:
            yield Problem(f"{names[0]} is installed, the lock has the headless one", severity=Severity.OPTIONAL)


@check(
    "RD323",
    Group.PACKAGES,
    "there is one spconv, and one cumm",
    remedy="`python -m pip uninstall` all of them, then `make setup`",
)
def spconv(environment: Environment) -> Iterator[Problem]:
    """`spconv`, `spconv-cu117`, `spconv-cu118` and so on share one folder, as their `cumm` do: the one installed last
    wins, file by file, and each wants the `cumm` of the same CUDA (spconv#337, #665). Read from the installed packages'
    folders; nothing is imported.
    """
    for pattern in _SPCONV:
        names = _installed(environment, pattern)
        if len(names) > 1:
            yield Problem(f"{' and '.join(names)} are installed, and share a folder")


def _installed(environment: Environment, pattern: re.Pattern[str]) -> list[str]:
    return sorted(name for name in environment.distributions if pattern.match(name))


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
