"""The record's four documents are there under their names, and every link in them leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs" / "zh"
NAMES = ("DINOV2_导入问题修复指南.md", "配置文件修正说明.md", "问题修复总结.md", "问题追踪记录.md")


def anchors(path: Path) -> set[str]:
    """Heading anchors as GitHub makes them: lower case, punctuation dropped, blanks to hyphens."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", NAMES)
def test_links_resolve(name):
    links = re.findall(r"\]\(([^)\s]+)\)", (DOCS / name).read_text(encoding="utf-8"))
    assert len(links) >= 3
    for link in links:
        target, _, anchor = unquote(link).partition("#")
        path = (DOCS / target).resolve() if target else DOCS / name
        assert path.exists(), link
        assert not anchor or anchor in anchors(path), link


@pytest.mark.parametrize("name", NAMES)
def test_each_document_leads_to_the_other_three(name):
    text = (DOCS / name).read_text(encoding="utf-8")
    assert [other for other in NAMES if other != name and f"]({other}" not in text] == []
