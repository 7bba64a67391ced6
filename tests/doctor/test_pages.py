"""docs/doctor says what the checks say: every check has its page, and no page has outlived its check."""

from __future__ import annotations

from pathlib import Path

import pytest

from racdino.doctor.pages import pages
from racdino.doctor.registry import CHECKS

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "doctor"


@pytest.mark.parametrize("name", sorted(pages()))
def test_page_follows_from_its_check(name):
    assert (FOLDER / name).read_text(encoding="utf-8") == pages()[name], "run `invoke doctor.pages`"


def test_no_page_is_left_over():
    assert {path.name for path in FOLDER.glob("RD*.md")} == {f"{code}.md" for code in CHECKS}


@pytest.mark.parametrize("code", sorted(CHECKS))
def test_page_explains_in_sentences(code):
    check = CHECKS[code]
    assert len(check.page) > 80
    assert check.title
    assert not check.title.endswith(".")
    assert check.remedy
