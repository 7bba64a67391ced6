"""Behind ``racdino doctor --fix`` and ``--undo``: shows what would be done, asks, does it, says what is left."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from racdino.doctor.errors import DoctorError
from racdino.doctor.finding import Finding, Severity
from racdino.doctor.mend.apply import Mending
from racdino.doctor.mend.plan import Run
from racdino.doctor.mend.proposal import propose, typed
from racdino.doctor.mend.undo import undo_newest
from racdino.doctor.report import printable

ROUNDS = 5  # a mended import lets the next wrong one be seen


def fix(root: Path | None, examine: Callable[[], list[Finding]], yes: bool) -> int:
    """Mend what ``examine`` finds, round after round, until nothing more can be mended.

    Args:
        root: the checkout, without symbolic links; None for the environment alone.
        examine: all problems as they are now.
        yes: do not ask.

    Returns:
        0, or 1 where an ERROR is left.

    Raises:
        DoctorError: nothing was asked because there is no terminal, or a mend failed and the run was taken back.
    """
    mending = Mending(root, Path(sys.prefix))
    for _ in range(ROUNDS):
        proposal = propose(root, mending.prefix, examine(), mending.done)
        if not proposal.mends:
            break
        print(proposal.diff(), flush=True)
        if not _agreed(yes):
            print("This was not applied." + _way_back(root, mending))
            return 1
        mending.apply(proposal)
    else:
        proposal = propose(root, mending.prefix, examine(), mending.done)
    _print_left(proposal.left)
    if proposal.mends:
        print(f"After {ROUNDS} rounds there is more to mend; run it again." + _way_back(root, mending))
        return 1
    print((f"{_count(mending)}." if mending.done else "nothing to mend.") + _way_back(root, mending))
    return 1 if any(finding.severity is Severity.ERROR for finding, _ in proposal.left) else 0


def undo(root: Path | None) -> int:
    """Take the newest run of ``--fix`` back.

    Raises:
        DoctorError: there is none, or a file was edited since; nothing was changed then.
    """
    try:
        undone = undo_newest(root, Path(sys.prefix))
    except OSError as error:
        raise DoctorError(f"Nothing was undone: {error.filename}: {error.strerror}.") from error
    for name in undone.restored:
        print(f"restored  {printable(name)}")
    for name in undone.deleted:
        print(f"deleted   {printable(name)}")
    for run in undone.commands:
        print(f"ran       {typed(run)}")
    for run in undone.kept:
        print(f"stays     {typed(run)} (nothing takes it back)")
    return 0


def _agreed(yes: bool) -> bool:
    if yes:
        return True
    if not sys.stdin.isatty():
        raise DoctorError("Nothing was changed: there is no terminal to ask on; --yes applies this without asking.")
    try:
        return input("Apply? [y/N] ").strip().lower() in {"y", "yes"}
    except EOFError:
        return False


def _print_left(left: Iterable[tuple[Finding, str]]) -> None:
    for finding, reason in left:
        print("\n".join(printable(line) for line in str(finding).splitlines()))
        if reason:
            print(f"{'':<8}  not mended: {printable(reason)}")


def _count(mending: Mending) -> str:
    commands = sum(isinstance(mend, Run) for mend in mending.done)
    edits = len(mending.done) - commands
    return f"mended: {edits} edit{'s' * (edits != 1)}, {commands} command{'s' * (commands != 1)}"


def _way_back(root: Path | None, mending: Mending) -> str:
    if not mending.done:
        return ""
    where = f" {shlex.quote(str(root))}" if root else ""
    return f" `racdino doctor --undo{where}` takes this back."
