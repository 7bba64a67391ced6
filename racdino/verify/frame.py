"""One camera frame: six images in RaCFormer's order, as the test pipeline shows them to the model."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from racdino.verify import restricted_pickle
from racdino.verify.errors import VerifyError

CAMERAS = ("FRONT", "FRONT_RIGHT", "FRONT_LEFT", "BACK", "BACK_LEFT", "BACK_RIGHT")
HEIGHT, WIDTH = 256, 704
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet, of RGB in [0, 1]; DINOv2's too
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
LARGEST_INFO = 64 * 2**20  # bytes; one frame's info is about 60 kB


@dataclass(frozen=True)
class Frame:
    """Six RGB images.

    Attributes:
        name: what the report calls it.
        images: (H, W, 3) uint8 each, in the order of ``CAMERAS``.
        synthetic: True where the project rendered them.
    """

    name: str
    images: tuple[np.ndarray, ...]
    synthetic: bool = False


def load_frame(folder: Path) -> Frame:
    """The frame in ``folder``: one ``.pkl`` of mmdetection3d's info format 1.1 with its images, or six images.

    Images without an info file are told apart by the camera in their names (``..CAM_FRONT_LEFT..``, ``back.png``).

    Raises:
        VerifyError: the folder, the info or an image is missing, ambiguous or unreadable.
    """
    if not folder.is_dir():
        raise VerifyError(f"--frame {folder} is not a folder; give one that holds six camera images.")
    infos = sorted(folder.glob("*.pkl"))
    if len(infos) > 1:
        raise VerifyError(f"{folder} holds {len(infos)} .pkl files; a frame has one (or none, and six images).")
    paths = _paths_of_info(infos[0]) if infos else _paths_by_name(folder)
    missing = [camera for camera in CAMERAS if camera not in paths]
    if missing:
        raise VerifyError(
            f"{folder} has no image of {', '.join(missing)}; six cameras are needed: {', '.join(CAMERAS)}."
        )
    return Frame(folder.name or str(folder), tuple(_read(paths[camera]) for camera in CAMERAS))


def _paths_of_info(info: Path) -> dict[str, Path]:
    if info.stat().st_size > LARGEST_INFO:
        raise VerifyError(f"{info} is larger than {LARGEST_INFO >> 20} MiB; give the info of one frame.")
    try:
        images = _first_sample(restricted_pickle.load(info))["images"]
        return {camera: info.parent / Path(images[f"CAM_{camera}"]["img_path"]).name for camera in CAMERAS}
    except pickle.UnpicklingError as error:
        raise VerifyError(f"{info} is not read: {error}.") from error
    except (KeyError, IndexError, TypeError) as error:
        raise VerifyError(
            f"{info} is not an info of format 1.1 (data_list[0].images.CAM_*.img_path): {error!r}."
        ) from error


def _first_sample(info: Any) -> Mapping[str, Any]:
    return info["data_list"][0]


def _paths_by_name(folder: Path) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        camera = re.search(r"(FRONT|BACK)(_LEFT|_RIGHT)?", path.stem.upper())
        if camera is None or path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        if camera.group() in paths:
            other = paths[camera.group()].name
            raise VerifyError(f"{folder} has two images of {camera.group()}: {other} and {path.name}; keep one.")
        paths[camera.group()] = path
    return paths


def _read(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError:
        raise VerifyError(f"{path} is missing, though the info names it.") from None
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise VerifyError(f"{path} is not a readable image: {error}.") from error


def crop(image: np.ndarray) -> np.ndarray:
    """(256, 704, 3) uint8: scaled to the width (0.44 for 1600x900), bottom rows kept, as RaCFormer's test pipeline."""
    height, width = image.shape[:2]
    scaled_height = round(height * WIDTH / width)
    if scaled_height < HEIGHT:
        raise VerifyError(f"an image of {width}x{height} is too flat: {WIDTH} wide it has fewer than {HEIGHT} rows.")
    scaled = Image.fromarray(image).resize((WIDTH, scaled_height), Image.Resampling.BICUBIC)
    return np.asarray(scaled)[-HEIGHT:]


def as_input(frame: Frame) -> Tensor:
    """(6, 3, 256, 704) float32, normalised with ImageNet's mean and standard deviation."""
    images = torch.from_numpy(np.stack([crop(image) for image in frame.images])).permute(0, 3, 1, 2).float() / 255
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
