"""The picture in README.md: ``python -m racdino.verify.picture docs/images/verify.jpg``.

Six rendered cameras, each above a PCA map of its ViT features, from the same code as the report's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from racdino.verify import backbone_run
from racdino.verify.frame import CAMERAS, Frame, as_input, crop
from racdino.verify.pca import rgb_maps
from racdino.verify.render import render_frame
from racdino.verify.report import PLACES

CELL = (528, 192)  # three quarters of what the model sees
GAP, MARGIN = 8, 16
PAPER = 255
VIT_MAP = 4  # index into Forward.features


def main(argv: list[str] | None = None) -> int:
    """Render, run the backbone, write the picture."""
    parser = argparse.ArgumentParser(prog="racdino.verify.picture", description="Make the picture of README.md.")
    parser.add_argument("file", type=Path, help="where it goes, .jpg or .png")
    file = parser.parse_args(argv).file
    frame, model = render_frame(), backbone_run.build()
    features = backbone_run.forward(model, as_input(frame)).features[VIT_MAP]
    note = "rendered scene; PCA of the ViT map" + (", random weights" if model.random else "")
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(compose(frame, rgb_maps(features), note)).save(file, quality=88)
    print(f"{file}: {file.stat().st_size / 1024:.0f} KiB; {note}")
    return 0


def compose(frame: Frame, maps: np.ndarray, note: str) -> np.ndarray:
    """A sheet of two rows of three cameras, each above its map; ``note`` stands in the first map's corner."""
    width, height = CELL
    block = 2 * height + GAP
    sheet = np.full((2 * block + 3 * MARGIN, 3 * width + 2 * GAP + 2 * MARGIN, 3), PAPER, np.uint8)
    for place, camera in enumerate(PLACES):
        i = CAMERAS.index(camera)
        photo = cv2.resize(crop(frame.images[i]), CELL, interpolation=cv2.INTER_AREA)
        colours = cv2.resize(maps[i], CELL, interpolation=cv2.INTER_NEAREST)
        _label(photo, camera.replace("_", " ").lower())
        if place == 0:
            _label(colours, note)
        top = MARGIN + (place // 3) * (block + MARGIN)
        left = MARGIN + (place % 3) * (width + GAP)
        sheet[top : top + height, left : left + width] = photo
        sheet[top + height + GAP : top + block, left : left + width] = colours
    return sheet


def _label(image: np.ndarray, text: str) -> None:
    """White on a dark strip at the lower left."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.45
    (width, height), _ = cv2.getTextSize(text, font, scale, 1)
    strip = image[-height - 12 :, : width + 14]
    strip[:] = strip // 3
    cv2.putText(image, text, (7, image.shape[0] - 7), font, scale, (255, 255, 255), 1, cv2.LINE_AA)


if __name__ == "__main__":
    raise SystemExit(main())
