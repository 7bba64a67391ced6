"""What only running the checkout's code can tell: with ``--run-imports``, each in a process of its own, in PATH."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

from racdino.doctor.check import Group, Problem, check
from racdino.doctor.checkout.subject import Checkout
from racdino.doctor.explain.search import find
from racdino.doctor.explain.texts import ALL

TIME_LIMIT = 120  # seconds; importing mmdet3d takes up to 20 from a cold disk


@check(
    "RD690",
    Group.IMPORTS,
    "models.backbones imports and gives DinoAdapter",
    remedy='run `python -c "from models.backbones import DinoAdapter"` and read its last lines',
    of_checkout=True,
    live=True,
)
def adapter_imports(checkout: Checkout) -> Iterator[Problem]:
    """The second of the five steps, as training would take it: from the checkout's folder, whose own `models/` wins.

    Runs only with `--run-imports`, in a process of its own that is stopped after two minutes, since importing executes
    the checkout's code. What reading the imports as text can find has its own codes.
    """
    if (checkout.root / "models").is_dir():
        yield from _fails(checkout, "from models.backbones import DinoAdapter", "models")


@check(
    "RD790",
    Group.CONFIGS,
    "every config loads through mmcv",
    remedy="correct the line that mmcv names",
    of_checkout=True,
    live=True,
)
def configs_load(checkout: Checkout) -> Iterator[Problem]:
    """The third of the five steps, for every config of the checkout. A config is a Python program and mmcv runs it.

    Runs only with `--run-imports`, each config in a process of its own that is stopped after two minutes. The other
    checks of this group read configs as text, which executes nothing.
    """
    for name in checkout.files(".py"):
        if name.startswith("configs/"):
            yield from _fails(checkout, f"from mmcv import Config; Config.fromfile({name!r})", name)


def _fails(checkout: Checkout, statement: str, place: str) -> Iterator[Problem]:
    # -I would hide the checkout; what -c puts first on the path is the working directory, which is what is asked for.
    try:
        run = subprocess.run(
            [sys.executable, "-c", statement],
            cwd=str(checkout.root),
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            timeout=TIME_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        yield Problem(f"`{statement}` was stopped after {TIME_LIMIT} s", place=place)
        return
    if run.returncode:
        known = find(run.stderr, ALL)
        last = (run.stderr.strip().splitlines() or [f"status {run.returncode} without a word"])[-1]
        yield Problem(f"`{statement}` fails: {last}", remedy=known[0].remedy if known else "", place=place)
