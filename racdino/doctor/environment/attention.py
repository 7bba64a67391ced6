"""RD501 to RD503: what DINOv2's attention can run on."""

from __future__ import annotations

from collections.abc import Iterator

from racdino.doctor.check import Group, Problem, check
from racdino.doctor.environment.packages import install
from racdino.doctor.environment.subject import Environment
from racdino.doctor.finding import Severity


@check(
    "RD501",
    Group.ATTENTION,
    "xformers is installed",
    remedy="`make setup` installs 0.0.19; not 0.0.22, which replaces torch",
    severity=Severity.OPTIONAL,
    mends=True,
)
def xformers_present(environment: Environment) -> Iterator[Problem]:
    """Without it DINOv2 code prints `UserWarning: xFormers is not available (Attention)` and takes torch's own
    attention: the record's fourth problem, which is a warning and no error. torch's `scaled_dot_product_attention` has
    kernels of the same kind since 2.0, and RacDINO uses it by default.
    """
    torch = environment.get("torch")
    if torch and environment.get("xformers") is None:
        pin = environment.pins.get("xformers") if torch.release == (2, 0, 0) else None  # for which alone it is compiled
        yield Problem("xformers is not installed", mend=install(environment, pin))


@check(
    "RD502",
    Group.ATTENTION,
    "xformers' compiled operators load",
    remedy="install xformers 0.0.19, which is compiled for torch 2.0.0: `make setup`",
    severity=Severity.OPTIONAL,
)
def xformers_loads(environment: Environment) -> Iterator[Problem]:
    """xformers is compiled for one torch. With another it prints `xFormers can't load C++/CUDA extensions` and its
    operators raise `NotImplementedError`: no operator is there for what is asked (Rein#27). 0.0.19 has no code for
    Hopper (9.0) either; torch's own attention, the default, runs there.
    """
    error = environment.loads.errors.get("xformers._C")
    if error and environment.get("xformers"):
        yield Problem(f"xformers' operators do not load: {error.splitlines()[0][:200]}")


@check(
    "RD503",
    Group.ATTENTION,
    "flash-attn, where it is installed, loads",
    remedy="build it here: `invoke setup --flash-attn` (hours), or uninstall it",
    severity=Severity.OPTIONAL,
)
def flash_attn_loads(environment: Environment) -> Iterator[Problem]:
    """Wheels of flash-attn are built for one torch, one CUDA and one C++ ABI. torch 2.0.0's own wheels are of the old
    ABI: a file name with `cxx11abiTRUE` ends in `undefined symbol: _ZN3c10...` (flash-attention#853, #919, #975). It
    is optional: torch's attention has a flash kernel of its own.
    """
    error = environment.loads.errors.get("flash_attn_2_cuda")
    if error and environment.get("flash-attn"):
        yield Problem(f"flash-attn does not load: {error.splitlines()[0][:200]}")
