"""RD401 to RD406: compiled code, loaded in a process of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from racdino.doctor.check import Group, Problem, check
from racdino.doctor.environment.subject import Environment
from racdino.doctor.finding import Severity
from racdino.doctor.mend.plan import Run

_PROJECT = Path(__file__).resolve().parents[3]
_MMCV, _SPCONV = "mmcv._ext", "spconv.core_cc"
_REASONS = (  # what the loader says, and what it means
    (r"undefined symbol: (\S+)", "it was compiled for another torch (undefined symbol {0})"),
    (r"lib(?:c10|torch)\S*: cannot open shared object", "torch's own libraries are not where it looks for them"),
    (r"(libcu\S+): cannot open shared object", "the CUDA library {0} that it was compiled with is absent"),
    (r"(lib\S+): cannot open shared object", "the system library {0} is absent"),
    (r"(GLIBCXX_[\d.]+|GLIBC_[\d.]+|CXXABI_[\d.]+)' not found", "the system's C++ library is too old for it ({0})"),
    (r"invalid ELF header|file too short|wrong ELF class", "the file is damaged"),
)


@check("RD401", Group.EXTENSIONS, "torch imports", remedy="`make setup`")
def torch_imports(environment: Environment) -> Iterator[Problem]:
    """torch is imported in a process of its own, which a crash ends and not the doctor. `GLIBCXX_3.4.29 not found`
    means that the C++ library of the system or of conda is older than the one torch was built with; a missing
    `libcu...` that `LD_LIBRARY_PATH` or another package's CUDA came in between.
    """
    if environment.get("torch") is None:
        return
    error = environment.loads.crash or environment.loads.errors.get("torch", "")
    if error:
        yield Problem(f"torch does not import: {_reason(error)}")


@check(
    "RD402",
    Group.EXTENSIONS,
    "the op is compiled and loads",
    remedy="`./fix_dinov2_import.sh` in RacDINO's folder",
    mends=True,
)
def op(environment: Environment) -> Iterator[Problem]:
    """`import MultiScaleDeformableAttention` needs the compiled `racdino/_C...so`: for this Python (its suffix), for
    this torch (its symbols) and of its present sources. The record's third problem is an extension that was never
    compiled here, with an `.egg` of another Python lying in `ops/dist`.

    The file is loaded as importing would, in a process of its own, after torch, whose `libc10.so` it needs.
    """
    if not environment.loads.torch:
        return
    error = environment.loads.errors.get("racdino._C")
    if error and not _for_another_torch(environment, error):
        yield Problem(f"the op does not load: {_reason(error)}", mend=_build(environment))


@check(
    "RD403",
    Group.EXTENSIONS,
    "`MultiScaleDeformableAttention` is RacDINO's",
    remedy="remove the other from the environment or from PYTHONPATH",
    severity=Severity.OPTIONAL,
)
def whose(environment: Environment) -> Iterator[Problem]:
    """Every descendant of Deformable DETR builds an extension of this name. The first on `sys.path` answers: one that
    `python setup.py install` left in the environment serves CUDA alone, computes locations in the dtype of the values,
    and wants a batch that `im2col_step` divides. It is only named: it may be what you want.
    """
    place = environment.loads.op
    if place and not place.endswith("MultiScaleDeformableAttention/__init__.py"):
        yield Problem(f"`import MultiScaleDeformableAttention` finds {place}")


@check("RD404", Group.EXTENSIONS, "mmcv-full's compiled ops load", remedy="`make setup` compiles them")
def mmcv_ops(environment: Environment) -> Iterator[Problem]:
    """`mmcv/_ext...so` is compiled for one Python and one torch. `No module named 'mmcv._ext'` means mmcv without
    `-full`, or a build that compiled nothing; `undefined symbol` a torch that was exchanged after mmcv-full had been
    built. No wheel of mmcv-full 1.6.0 for torch 2.0 exists (SparseBEV#81), so it is compiled.
    """
    if not environment.loads.torch or environment.get("mmcv-full") is None:
        return
    error = environment.loads.errors.get(_MMCV, "" if _MMCV in environment.loads.files else "not compiled")
    if error and not _for_another_torch(environment, error):
        yield Problem(f"mmcv's ops do not load: {_reason(error)}")


@check("RD405", Group.EXTENSIONS, "spconv loads", remedy="`make setup`", severity=Severity.OPTIONAL)
def spconv(environment: Environment) -> Iterator[Problem]:
    """spconv's compiled core needs that of cumm, of the same CUDA and within the range that its metadata names
    (spconv#337, #665). RaCFormer does not use it; other detectors of mmdet3d do.
    """
    names = [name for name in ("cumm.core_cc", _SPCONV) if name in environment.loads.errors]
    if names:
        yield Problem(f"{names[0].partition('.')[0]} does not load: {_reason(environment.loads.errors[names[0]])}")


@check(
    "RD406",
    Group.EXTENSIONS,
    "torchvision is of this torch",
    remedy="install the torchvision of this torch: `make setup`",
)
def torchvision(environment: Environment) -> Iterator[Problem]:
    """Each release of torchvision is compiled for one release of torch: 0.15.1 for 2.0.0. With another its operators do
    not load, which importing it hides: the first `nms` or `roi_align` ends in `Couldn't load custom C++ ops`, with
    newer releases in `operator torchvision::nms does not exist` (pytorch#122494).
    """
    error = environment.loads.errors.get("torchvision._C")
    if error and environment.get("torchvision") and not _for_another_torch(environment, error):
        yield Problem(f"torchvision's operators do not load: {_reason(error)}")


def _for_another_torch(environment: Environment, error: str) -> bool:
    """Whether torch is at fault, and not what was compiled for the locked one: RD302 says that, once."""
    torch, pin = environment.get("torch"), environment.pins.get("torch")
    exchanged = torch is not None and pin is not None and torch.version.split("+")[0] != pin.version.split("+")[0]
    return exchanged and ("undefined symbol" in error or "built for torch" in error)


def _reason(error: str) -> str:
    for pattern, meaning in _REASONS:
        found = re.search(pattern, error)
        if found:
            return meaning.format(*found.groups())
    return error.splitlines()[0][:300]


def _build(environment: Environment) -> Run | None:
    if not (_PROJECT / "setup.py").is_file():
        return None
    return Run((environment.python, "setup.py", "build_ext", "--inplace"), cwd=str(_PROJECT))
