"""The two READMEs say the same: same sections, same commands, and links that lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
READMES = ("README.md", "README.zh-CN.md")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_chinese_readme_has_the_same_code_blocks():
    blocks = [re.findall(r"^```.*?^```", read(name), re.MULTILINE | re.DOTALL) for name in READMES]
    assert blocks[0] == blocks[1]


def test_the_chinese_readme_has_the_same_figures():
    figures = [re.findall(r"\d+(?:\.\d+)?(?: / \d+(?:\.\d+)?){2}|\d\.\de-\d|1/\d+\.\d", read(name)) for name in READMES]
    assert figures[0]
    assert sorted(figures[0]) == sorted(figures[1])


def test_the_chinese_readme_has_the_same_sections_and_rows():
    english, chinese = (
        [len(re.findall(mark, read(name), re.MULTILINE)) for mark in (r"^## ", r"^\|", r"^- ")] for name in READMES
    )
    assert english == chinese


@pytest.mark.parametrize("name", READMES)
def test_links_lead_somewhere(name):
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", read(name))
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
