"""Which checks run: all, those named by ``--only``, without those named by ``--skip``. Standard library only."""

from __future__ import annotations

from collections.abc import Sequence

from racdino.doctor.check import Check, Group
from racdino.doctor.errors import DoctorError
from racdino.doctor.registry import CHECKS


def select(only: Sequence[str], skip: Sequence[str]) -> list[Check]:
    """The checks in the order of their codes.

    Args:
        only, skip: codes (``RD601``) or groups (``imports``), each item possibly several with commas between.

    Raises:
        DoctorError: a name is neither.
    """
    wanted, unwanted = _codes(only) or set(CHECKS), _codes(skip)
    return [CHECKS[code] for code in sorted(wanted - unwanted)]


def _codes(names: Sequence[str]) -> set[str]:
    return {code for item in names for name in item.split(",") if name for code in _codes_of(name.strip())}


def _codes_of(name: str) -> list[str]:
    if name.upper() in CHECKS:
        return [name.upper()]
    groups = {group.key: group for group in Group}
    if name.lower() in groups:
        return [code for code, check in CHECKS.items() if check.group is groups[name.lower()]]
    raise DoctorError(f"There is no check {name!r}; name a code of docs/doctor or one of {', '.join(groups)}.")
