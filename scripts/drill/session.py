"""``python -m scripts.drill.session``: a session with the doctor, recorded to docs/doctor/session.md.

The tree is broken as the record's user found it: problems 1, 2 and 5 at once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scripts.drill import faults_checkout, faults_configs, tree
from scripts.drill.fault import Fault

PAGE = tree.ROOT / "docs" / "doctor" / "session.md"
SHOWN = "~/RACDION"
HEAD = """# A session with the doctor

What `python -m scripts.drill.session` recorded: the reconstruction of the user's tree, broken in three ways of the
integration record at once. The seconds are what each command took on the two cores where this was written.
"""
COMMANDS = (
    f"racdino doctor {SHOWN} --only imports,configs",
    f"racdino doctor --fix --yes {SHOWN} --only imports,configs",
    f"racdino doctor {SHOWN} --only imports,configs",
    f"racdino doctor --fix --yes {SHOWN} --only imports,configs",
    f"racdino doctor --undo {SHOWN}",
    "racdino doctor",
    """racdino doctor explain -- "ImportError: libc10.so: cannot open shared object file\"""",
)


def main() -> int:
    """Run the session and write the page."""
    with tempfile.TemporaryDirectory() as home:
        copy = tree.copy(Path(home) / "RACDION")
        for number in (1, 2, 5):
            _of_the_record(number).break_it(copy)
        recorded = "\n".join(_record(command, home) for command in COMMANDS)
    PAGE.write_text(f"{HEAD}\n```console\n{recorded}\n```\n", encoding="utf-8")
    print(recorded)
    return 0


def _of_the_record(number: int) -> Fault:
    faults = [*faults_checkout.FAULTS, *faults_configs.FAULTS]
    return next(fault for fault in faults if fault.record == number)


def _record(command: str, home: str) -> str:
    begin = time.monotonic()
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=home,
        env={
            **os.environ,
            "HOME": home,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(tree.ROOT),  # these sources' doctor, whichever checkout the environment was made for
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    seconds = time.monotonic() - begin
    said = done.stdout.replace(home, "~").rstrip()
    return f"$ {command}\n{said}\n[status {done.returncode}, {seconds:.1f} s]\n"


if __name__ == "__main__":
    sys.exit(main())
