"""The drill: its table has every fault, and the record's problems are found alone and mended as promised."""

from __future__ import annotations

from collections import Counter

import pytest

from racdino.doctor.registry import CHECKS
from scripts.drill.__main__ import CHECKOUTS, PAGE, row
from scripts.drill.faults_environment import FAULTS as ENVIRONMENT
from scripts.drill.run import Outcome, healthy_checkout, healthy_environment, try_checkout, try_environment

KINDS = {"environment": ENVIRONMENT, "checkout": CHECKOUTS}
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


@pytest.fixture(scope="module")
def healthy() -> dict[str, frozenset[str]]:
    return {"environment": healthy_environment(), "checkout": healthy_checkout()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "fault"),
    [(kind, fault) for kind, faults in KINDS.items() for fault in faults if fault.record],
    ids=lambda value: getattr(value, "name", value),
)
def test_each_problem_of_the_record_is_found_alone_and_mended_as_promised(kind, fault, healthy):
    """All the others too: `invoke doctor.drill`, some eight minutes."""
    attempt = {"environment": try_environment, "checkout": try_checkout}[kind]
    outcome = attempt(fault, healthy[kind])
    assert outcome.codes == {fault.code}
    assert outcome.trouble == ""
