"""The five verification steps of the integration record, verbatim: this table is their one home."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from racdino.verify.errors import VerifyError

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 300  # seconds


@dataclass(frozen=True)
class Step:
    """One command as the user types it in the project root; ``proof`` is what it prints when it passes."""

    title: str
    command: str
    proof: str


_CONFIG = "configs/racformer_r50_nuimg_704x256_f8_with_dinov2_fixed.py"
STEPS = (
    Step("extension", """python -c "import MultiScaleDeformableAttention; print('✅ 1/5')\"""", "✅ 1/5"),
    Step("DinoAdapter", """python -c "from models.backbones import DinoAdapter; print('✅ 2/5')\"""", "✅ 2/5"),
    Step(
        "config",
        f"""python -c "from mmcv import Config; Config.fromfile('{_CONFIG}'); print('✅ 3/5')\"""",
        "✅ 3/5",
    ),
    Step("setup", 'python check_dinov2_setup.py && echo "✅ 4/5"', "✅ 4/5"),
    Step("config comparison", 'python tools/verify_dinov2_config.py && echo "✅ 5/5"', "✅ 5/5"),
)


def run_step(step: Step, root: Path) -> str:
    """Run the command in ``root`` with this interpreter as ``python``; return the command when it printed its proof.

    Raises:
        VerifyError: the command failed or took too long; the message ends in its last lines.
    """
    bin_folder = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": os.pathsep.join([bin_folder, os.environ.get("PATH", "")]), "PYTHONUTF8": "1"}
    try:
        run = subprocess.run(
            ["/bin/sh", "-c", step.command],
            cwd=root,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise VerifyError(f"`{step.command}` was stopped after {TIMEOUT} s.") from error
    lines = run.stdout.splitlines()
    if run.returncode != 0 or not lines or lines[-1] != step.proof:
        said = " | ".join((*lines, *run.stderr.splitlines())[-3:]) or "nothing"
        where = shlex.quote(str(root))
        raise VerifyError(f"`{step.command}` in {where} ended with status {run.returncode}; it said: {said}")
    return step.command


def main() -> int:
    """``python -m racdino.verify.steps``: the five steps alone; the exit status is 0 when all pass."""
    from racdino.verify.table import Table

    table = Table()
    for number, step in enumerate(STEPS, start=1):
        table.run(f"step {number}/{len(STEPS)}: {step.title}", partial(run_step, step, ROOT))
    print(table.summary())
    return 1 if table.failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
