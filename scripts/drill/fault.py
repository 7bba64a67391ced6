"""One fault of the drill: how to break a copy, and what the doctor must then say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Fault:
    """A way in which an environment or a checkout goes wrong.

    Attributes:
        name: what is wrong, a short phrase, unique.
        code: the check that must report it, and no other check may report anything that it does not on a healthy copy.
        break_it: edits the copy, whose folder it is given: a checkout's root, or what `shadow.py` makes.
        mended: whether ``racdino doctor --fix`` leads to a healthy copy again.
        record: the problem of the user's integration record that this is, 1 to 6; 0 for none.
        variables: environment variables under which the doctor then runs; ``{copy}`` in them is that folder.
        limits: resource limits under which it then runs: ``resource.RLIMIT_...`` to (soft, hard).
    """

    name: str
    code: str
    break_it: Callable[[Path], None] = lambda copy: None
    mended: bool = False
    record: int = 0
    variables: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[int, tuple[int, int]] = field(default_factory=dict)
