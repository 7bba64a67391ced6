"""The report is written whole or not at all, stands on its own, and says random and synthetic wherever it must."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from racdino.verify import report
from racdino.verify.backbone_run import Forward, Model
from racdino.verify.errors import VerifyError
from racdino.verify.fingerprint import Fingerprint
from racdino.verify.frame import CAMERAS, Frame
from racdino.verify.table import Table

SIZES = ((64, 176), (32, 88), (16, 44), (8, 22), (18, 50))


def fail() -> str:
    raise VerifyError("<b>wrong</b> & broken")


@pytest.fixture(scope="module")
def frame() -> Frame:
    images = tuple(np.full((396, 704, 3), 30 * (i + 1), np.uint8) for i in range(len(CAMERAS)))
    return Frame("a test frame", images, synthetic=True)


@pytest.fixture(scope="module")
def result() -> Forward:
    generator = torch.Generator().manual_seed(0)
    return Forward(tuple(torch.randn(6, 8, h, w, generator=generator) for h, w in SIZES), 1.25)


@pytest.fixture
def content(frame) -> dict:
    table = Table()
    table.run("good check", lambda: "fine")
    table.run("bad check", fail)
    model = Model(torch.nn.Identity(), torch.device("cpu"), "random initialisation (seed 0)", random=True)
    mark = Fingerprint(1.5, 2.5, (0.1, 0.2, 0.3, 0.4, 0.5))
    return report.collect(table, frame, model, None, {"forward": 1.25}, mark)


class Page(HTMLParser):
    """Collects every attribute that can load something, the images, and unclosed elements."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attributes if name in {"src", "href", "srcset", "data", "action"}]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_loads_nothing(content, frame, result):
    text = report.html(content, frame, result)
    page = Page(text)
    assert page.open == []
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert len(page.loads) == 6 * 3
    assert all(source.startswith("data:image/") for source in page.loads)
    assert not re.search(r"url\(|@import|https?://", text)


def test_pictures_are_the_crops_and_maps_in_their_places(content, frame, result):
    page = Page(report.html(content, frame, result))
    sizes = [Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).size for source in page.loads]
    assert sizes == [(704, 256), (50, 18), (88, 32)] * 6
    photos = [np.asarray(Image.open(io.BytesIO(base64.b64decode(s.partition(",")[2])))) for s in page.loads[::3]]
    # FRONT_LEFT, FRONT, FRONT_RIGHT, BACK_LEFT, BACK, BACK_RIGHT: as one looks around, not in the model's order
    assert [round(photo.mean() / 30) for photo in photos] == [3, 1, 2, 5, 4, 6]


def test_random_and_synthetic_are_said_at_every_picture(content, frame, result):
    text = report.html(content, frame, result)
    assert text.count(", random weights</span>") == 12
    assert text.count("<span>synthetic</span>") == 6
    assert "Random weights." in text


def test_text_is_escaped_and_rows_are_shown(content, frame, result):
    text = report.html(content, frame, result)
    assert "&lt;b&gt;wrong&lt;/b&gt; &amp; broken" in text
    assert "1 of 2 checks passed" in text


def test_both_files_are_written_and_the_json_is_complete(content, frame, result, tmp_path):
    assert report.write(tmp_path, content, frame, result) == str(tmp_path / "report.html")
    stored = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(content))
    assert not stored["passed"]
    assert {row["title"]: row["passed"] for row in stored["rows"]} == {"good check": True, "bad check": False}
    assert stored["frame"]["synthetic"]
    assert stored["backbone"]["random"]
    assert stored["fingerprint"]["loss"] == 1.5
    assert stored["versions"]["torch"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_a_run_that_got_nowhere_still_has_a_report(tmp_path):
    content = report.collect(Table(), None, None, None, {}, None)
    report.write(tmp_path, content, None, None)
    assert "Not computed." in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_failing_write_leaves_the_old_report(content, frame, result, tmp_path, monkeypatch):
    (tmp_path / "report.json").write_text("old")
    monkeypatch.setattr(report.json, "dumps", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.write(tmp_path, content, frame, result)
    assert (tmp_path / "report.json").read_text() == "old"
    monkeypatch.undo()
    with pytest.raises(VerifyError, match=r"cannot be written to .*: No such file or directory"):
        report.write(tmp_path / "gone", content, frame, result)
