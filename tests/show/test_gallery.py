"""racdino/show/gallery.py: one file with all pictures in it, which asks nobody for anything."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from racdino.evaluation import CLASS_NAMES
from racdino.show.gallery import make_page, write_gallery
from racdino.show.sheet import views


class Elements(HTMLParser):
    """Every start tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def named(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture
def page(sample, tmp_path) -> Path:
    pages = [make_page(views(sample), sample, f"sample {number}") for number in range(3)]
    path = tmp_path / "deep/index.html"
    write_gallery(path, pages, "RacDINO <show>", ["synthetic data & nothing else"], CLASS_NAMES)
    return path


def test_it_has_a_picture_for_every_camera_and_the_view_from_above_of_every_sample(page, sample):
    elements = Elements(page.read_text())
    pictures = elements.named("img")
    assert len(pictures) == 3 * (len(sample.cameras) + 1)
    assert len(elements.named("section")) == 3
    slider = next(each for each in elements.named("input") if each["type"] == "range")
    assert (slider["min"], slider["max"], slider["value"]) == ("1", "3", "1")
    for picture in pictures:
        kind, _, data = picture["src"].partition(",")
        assert kind == "data:image/jpeg;base64"
        image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert image.shape[:2] == (int(picture["height"]), int(picture["width"]))


def test_colours_survive_the_compression(page, sample):
    first = Elements(page.read_text()).named("img")[0]
    data = base64.b64decode(first["src"].partition(",")[2])
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    drawn = views(sample)["CAM_FRONT"]
    assert np.abs(image.astype(int) - drawn).mean() < 6


def test_nothing_is_loaded_from_elsewhere(page):
    text = page.read_text()
    without_pictures = re.sub(r"data:image/jpeg;base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search(r"https?:|//[a-z]|url\(|@import|fetch\(|XMLHttp|import\(", without_pictures)
    elements = Elements(text)
    assert not elements.named("link")
    assert all("src" not in script for script in elements.named("script"))
    policy = next(meta for meta in elements.named("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"].startswith("default-src 'none'; img-src data:;")


def test_every_picture_says_in_words_what_it_shows(page):
    alts = [picture["alt"] for picture in Elements(page.read_text()).named("img")]
    assert alts[0] == "CAM_FRONT with 1 detections, 2 true boxes"
    assert alts[2] == "from above: 3 radar points, 1 detections, 2 true boxes"


def test_arrow_keys_and_buttons_move_the_slider(page):
    text = page.read_text()
    assert "ArrowLeft: -1, ArrowRight: 1" in text
    assert [button["aria-label"] for button in Elements(text).named("button")] == ["previous sample", "next sample"]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to run the page's script")
def test_the_script_shows_one_sample_and_moves_with_keys_buttons_and_slider(page, tmp_path):
    script = page.read_text().split("<script>")[1].split("</script>")[0]
    page_stub = """
    const listeners = {};
    const element = (name) => (
      { hidden: false, value: "1", addEventListener: (kind, act) => listeners[name + kind] = act });
    const elements = {}, sections = [element("s"), element("s"), element("s")];
    const document = {
      querySelectorAll: () => sections,
      querySelector: (name) => elements[name] ??= element(name),
      getElementById: (name) => elements[name] ??= element(name),
      addEventListener: (kind, act) => listeners[kind] = act,
    };
    """
    uses = """
    const shown = () => sections.map((section) => section.hidden ? "-" : "x").join("") + elements.place.textContent;
    const seen = [shown()];
    const press = (key, more) => { listeners.keydown({ key, preventDefault() {}, ...more }); seen.push(shown()); };
    press("ArrowRight"); press("End"); press("ArrowRight"); press("ArrowLeft", { altKey: true }); press("a");
    listeners.backclick(); seen.push(shown());
    elements.slider.value = "1"; listeners.sliderinput(); seen.push(shown());
    console.log(JSON.stringify([seen, elements.nav.hidden]));
    """
    file = tmp_path / "page.js"
    file.write_text(page_stub + script.replace('"use strict";', "") + uses)
    done = subprocess.run(["node", str(file)], capture_output=True, text=True, check=True)
    first, second, third = "x--1 / 3", "-x-2 / 3", "--x3 / 3"
    assert json.loads(done.stdout) == [[first, second, third, third, third, third, second, first], False]


def test_text_is_escaped(page):
    text = page.read_text()
    assert "RacDINO &lt;show&gt;" in text
    assert "synthetic data &amp; nothing else" in text


def test_a_page_of_the_truth_alone_says_so(sample):
    alone = replace(sample, found=None)
    assert make_page(views(alone), alone, "one").title == "one: 2 true boxes, 3 radar points"
