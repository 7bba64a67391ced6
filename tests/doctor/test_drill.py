"""The drill: each fault is found by its check and by no other, and what is promised to be mended is mended."""

from __future__ import annotations

from collections import Counter

import pytest

from racdino.doctor.registry import CHECKS
from scripts.drill.__main__ import CHECKOUTS, PAGE, main, row
from scripts.drill.faults_environment import FAULTS as ENVIRONMENT
from scripts.drill.run import Outcome

FAULTS = [*ENVIRONMENT, *CHECKOUTS]


def test_there_are_forty_and_every_problem_of_the_record_among_them():
    assert len(FAULTS) >= 40
    assert {fault.record for fault in FAULTS} >= set(range(1, 7))
    assert Counter(fault.name for fault in FAULTS).most_common(1)[0][1] == 1


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_what_is_mended_has_a_check_that_mends(fault):
    assert fault.code in CHECKS
    assert CHECKS[fault.code].mends or not fault.mended


def test_the_page_has_a_row_for_every_fault_found_and_mended():
    kinds = ["environment"] * len(ENVIRONMENT) + ["checkout"] * len(CHECKOUTS)
    expected = [row(kind, Outcome(fault, frozenset({fault.code}))) for kind, fault in zip(kinds, FAULTS, strict=True)]
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert rows[1:] == expected, "run `invoke doctor.drill`"


@pytest.mark.slow
def test_every_fault_is_found_alone_and_mended_as_promised(monkeypatch, tmp_path):
    monkeypatch.setattr("scripts.drill.__main__.PAGE", tmp_path / "drill.md")
    assert main() == 0
    assert (tmp_path / "drill.md").read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")
