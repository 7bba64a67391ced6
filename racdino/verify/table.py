"""The table of checks: printed row by row, kept for the report."""

from __future__ import annotations

import textwrap
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from racdino.verify.errors import VerifyError


@dataclass(frozen=True)
class Row:
    """One check: what it found, or why it failed (``trace`` where that was unforeseen)."""

    title: str
    passed: bool
    detail: str
    seconds: float
    trace: str = ""


@dataclass
class Table:
    """Runs checks one after the other; a failed one does not stop the next."""

    rows: list[Row] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def run(self, title: str, check: Callable[[], str]) -> bool:
        """Run ``check``, print its row, say whether it passed. Its text, or that of its error, is the detail."""
        start = time.perf_counter()
        passed, trace = False, ""
        try:
            detail = check()
            passed = True
        except VerifyError as error:
            detail = str(error)
        except Exception as error:  # a broken environment raises anything; the other rows must still be seen
            detail, trace = f"{type(error).__name__}: {error}", traceback.format_exc()
        row = Row(title, passed, detail, time.perf_counter() - start, trace)
        self.rows.append(row)
        print(f"{'ok' if passed else 'FAIL':<4} {row.seconds:7.1f} s  {title:<30} {detail}", flush=True)
        return passed

    @property
    def failed(self) -> list[Row]:
        return [row for row in self.rows if not row.passed]

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started

    def summary(self) -> str:
        """The last line of the run."""
        if self.failed:
            names = textwrap.shorten(", ".join(row.title for row in self.failed), 200)
            return f"verify: {len(self.failed)} of {len(self.rows)} checks failed in {self.seconds:.0f} s: {names}"
        return f"verify: all {len(self.rows)} checks passed in {self.seconds:.0f} s"
