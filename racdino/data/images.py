"""Camera images, decoded no larger than the result needs.

A JPEG stores 8 x 8 blocks of frequencies; leaving the upper ones out decodes it at 1/2, 1/4 or 1/8 of its size for a
fraction of the work. libturbojpeg does that fastest; OpenCV's own copy of libjpeg gives the same pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from racdino.data.augmentation import ImageTransform

_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
# A reduced image may be enlarged by this much: at 1.1 the result is closer to a full decode with a filtered resize
# (47.5 dB) than a full decode with a bilinear resize is at smaller sizes (47.0 dB), on a real nuScenes frame.
_LARGEST_ENLARGEMENT = 1.11


class ImageFileError(ValueError):
    """The file is no whole image of the expected size; the message names it and says what is wrong."""


@dataclass(frozen=True)
class ImageFile:
    """An image that is still to be read; pipelines carry it in place of the pixels."""

    path: str


class Pictures(list[np.ndarray]):
    """Read-only images of one sample. Copies share them: mmdet3d's test-time wrapper copies all it is given."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Pictures:
        return self


@lru_cache(maxsize=1)
def _turbojpeg() -> Any | None:
    try:
        from turbojpeg import TurboJPEG

        return TurboJPEG()
    except (ImportError, RuntimeError, OSError):  # the package or the system's library is not there
        return None


def decode(path: str, reduction: int = 1) -> np.ndarray:
    """(height, width, 3) uint8 BGR at 1/``reduction`` of the stored size, rounded up; reduction is 1, 2, 4 or 8.

    Raises:
        ImageFileError: the file is empty, cut off or no image. FileNotFoundError: there is no such file.
    """
    content = Path(path).read_bytes()
    if not content:
        raise ImageFileError(f"image {path} is empty: copy or download it again")
    jpeg = content.startswith(b"\xff\xd8")
    if jpeg and b"\xff\xd9" not in content[-64:]:  # decoders fill what is missing with grey and say nothing
        raise ImageFileError(f"image {path} is cut off: it has no end-of-image mark, copy or download it again")
    turbo = _turbojpeg() if jpeg else None
    try:
        if turbo is not None:
            return turbo.decode(content, scaling_factor=(1, reduction))
        image = cv2.imdecode(np.frombuffer(content, np.uint8), _REDUCED[reduction])
    except (OSError, cv2.error) as error:
        raise ImageFileError(f"image {path} cannot be decoded ({error})") from error
    if image is None:
        raise ImageFileError(f"image {path} cannot be decoded: it is damaged or no image")
    return image


def apply(image: np.ndarray, transform: ImageTransform, legacy_resize: bool = False) -> np.ndarray:
    """(height, width, 3) resized, cropped and flipped; ``image`` may be the source at any reduction.

    ``legacy_resize``: Pillow's bicubic filter, as upstream; else OpenCV's, which is several times faster.
    """
    height, width = transform.resized
    if legacy_resize:
        from PIL import Image

        resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
    else:
        resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    out_height, out_width = transform.size
    top, left = transform.top, transform.left
    rows = slice(max(top, 0), min(top + out_height, height))
    columns = slice(max(left, 0), min(left + out_width, width))
    part = resized[rows, columns]
    if part.shape[:2] != (out_height, out_width):
        padded = np.zeros((out_height, out_width, 3), np.uint8)
        padded[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = part
        part = padded
    return part[:, ::-1] if transform.flip else part


@lru_cache(maxsize=72)  # a test's key frames are the past of the samples after it; 540 KB an image of 704 x 256
def load(path: str, transform: ImageTransform, legacy_decode: bool = False) -> np.ndarray:
    """The transformed image of a file, read-only.

    Args:
        legacy_decode: decode at full size and resize with Pillow, as upstream does.
    Returns:
        (height, width, 3) uint8 BGR, a view of planes (3, height, width), which the batch wants.
    Raises: see ``decode``; ImageFileError also where the image has another size than ``transform.source``.
    """
    reduction = 1 if legacy_decode else _reduction(transform.scale)
    image = decode(path, reduction)
    expected = tuple(-(-length // reduction) for length in transform.source)
    if image.shape[:2] != expected:
        found = "x".join(str(length * reduction) for length in image.shape[1::-1])
        wanted = "x".join(str(length) for length in transform.source[::-1])
        raise ImageFileError(f"image {path} is {found} pixels, where ida_aug_conf says {wanted}")
    planes = np.stack(cv2.split(apply(image, transform, legacy_decode)))
    planes.setflags(write=False)
    return planes.transpose(1, 2, 0)


def _reduction(scale: float) -> int:
    return next(r for r in (8, 4, 2, 1) if scale * r <= _LARGEST_ENLARGEMENT or r == 1)
