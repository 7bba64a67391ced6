"""The samples as one HTML file: pictures inside, nothing loaded from elsewhere, a slider and the arrow keys to move."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import jinja2
import numpy as np

from racdino.show.palette import colour
from racdino.show.sample import Sample
from racdino.show.sheet import BEV
from racdino.training.files import write_text

_JPEG_QUALITY = 85


@dataclass(frozen=True)
class Picture:
    """An image of the page."""

    uri: str
    width: int
    height: int
    alt: str


@dataclass(frozen=True)
class Page:
    """One position of the slider."""

    title: str
    cameras: Sequence[Picture]
    bev: Picture


def make_page(pictures: dict[str, np.ndarray], sample: Sample, title: str) -> Page:
    """Out of what `racdino.show.sheet.views` returns; the pixels are compressed here and can be let go."""
    drawn = sample.summary() or "no boxes"
    cameras = [_picture(picture, f"{name} with {drawn}") for name, picture in pictures.items() if name != BEV]
    bev = _picture(pictures[BEV], f"from above: {len(sample.radar)} radar points, {drawn}")
    return Page(f"{title}: {drawn}, {len(sample.radar)} radar points", cameras, bev)


def write_gallery(
    path: Path, pages: Sequence[Page], heading: str, notes: Sequence[str], class_names: Sequence[str]
) -> None:
    """Write the page, whole or not at all."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    legend = [(name, "#{:02x}{:02x}{:02x}".format(*colour(name))) for name in class_names]
    html = environment.get_template("gallery.html").render(heading=heading, notes=notes, pages=pages, legend=legend)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, html)


def _picture(image: np.ndarray, alt: str) -> Picture:
    _, content = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    uri = f"data:image/jpeg;base64,{base64.b64encode(content.tobytes()).decode()}"
    return Picture(uri, image.shape[1], image.shape[0], alt)
