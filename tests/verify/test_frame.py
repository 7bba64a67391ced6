"""Frames load in the two layouts, in RaCFormer's camera order and crop, and bad ones are refused with one sentence."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from racdino.verify import restricted_pickle
from racdino.verify.errors import VerifyError
from racdino.verify.frame import CAMERAS, Frame, as_input, crop, load_frame


def write_images(folder: Path, names: list[str], size: tuple[int, int] = (1600, 900)) -> None:
    for shade, name in enumerate(names, start=1):
        Image.new("RGB", size, (shade * 20,) * 3).save(folder / name)


def write_info(folder: Path, names: list[str]) -> None:
    images = {f"CAM_{camera}": {"img_path": name} for camera, name in zip(CAMERAS, names, strict=True)}
    content = {"metainfo": {"info_version": "1.1"}, "data_list": [{"images": images, "ego2global": np.eye(4)}]}
    (folder / "frame.pkl").write_bytes(pickle.dumps(content))


def shades(frame: Frame) -> list[int]:
    return [round(image.mean() / 20) for image in frame.images]


def test_the_real_frame_loads_as_it_is(real_frame_folder):
    frame = load_frame(real_frame_folder)
    assert [image.shape for image in frame.images] == [(900, 1600, 3)] * 6
    assert not frame.synthetic
    front, *_ = sorted(real_frame_folder.glob("*__CAM_FRONT__*.jpg"))
    np.testing.assert_array_equal(frame.images[0], np.asarray(Image.open(front)))
    inputs = as_input(frame)
    assert inputs.shape == (6, 3, 256, 704)
    assert 0.3 < float(inputs.std()) < 1.5


WRITTEN = ("BACK_LEFT", "BACK_RIGHT", "BACK", "FRONT_LEFT", "FRONT_RIGHT", "FRONT")


def test_an_info_file_decides_which_image_is_which(tmp_path):
    names = [f"{i}.png" for i in (3, 1, 4, 2, 6, 5)]
    write_images(tmp_path, [f"{i}.png" for i in range(1, 7)])
    write_info(tmp_path, names)
    assert shades(load_frame(tmp_path)) == [3, 1, 4, 2, 6, 5]


@pytest.mark.parametrize(
    "names",
    [
        [f"n015__CAM_{camera}__1.jpg" for camera in WRITTEN],
        [f"{camera.lower()}.png" for camera in WRITTEN],
    ],
    ids=["nuScenes names", "plain names"],
)
def test_names_tell_the_cameras_apart(tmp_path, names):
    write_images(tmp_path, names)
    (tmp_path / "notes about the front.txt").write_text("not an image")
    assert shades(load_frame(tmp_path)) == [6, 5, 4, 3, 1, 2]


def test_the_crop_is_the_test_pipelines():
    """0.44 of 1600x900 is 704x396, its bottom 256 rows begin at 140: row r shows source row (r + 140.5) / 0.44."""
    rows = np.repeat(np.linspace(0, 255, 900), 1600).reshape(900, 1600).astype(np.uint8)
    cropped = crop(np.stack([rows] * 3, -1))
    assert cropped.shape == (256, 704, 3)
    expected = ((np.arange(256) + 140.5) / 0.44 - 0.5) * 255 / 899
    np.testing.assert_allclose(cropped[:, 350, 0], expected, atol=1.5)


def test_normalisation_agrees_with_torchvision(rendered):
    from torchvision.transforms import functional as vision

    images = torch.from_numpy(np.stack([crop(image) for image in rendered.images])).permute(0, 3, 1, 2) / 255
    expected = vision.normalize(images, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close(as_input(rendered), expected)


def test_other_sizes_fill_the_width():
    assert crop(np.zeros((540, 960, 3), np.uint8)).shape == (256, 704, 3)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda f: (f / "front.png").unlink(), r"has no image of FRONT; six cameras are needed"),
        (lambda f: (f / "back.png").write_bytes(b"\xff\xd8\xff not a jpeg"), r"back\.png is not a readable image"),
        (lambda f: (f / "back.png").write_bytes((f / "back.png").read_bytes()[:200]), r"back\.png is not a readable"),
        (lambda f: write_images(f, ["second_front.png"]), r"two images of FRONT: front\.png and second_front\.png"),
        (lambda f: write_info(f, [f"gone{i}.png" for i in range(6)]), r"gone0\.png is missing, though the info names"),
        (lambda f: [(f / n).write_bytes(b"") for n in ("a.pkl", "b.pkl")], r"holds 2 \.pkl files"),
        (lambda f: (f / "a.pkl").write_bytes(b""), r"a\.pkl is not read: "),
        (lambda f: (f / "a.pkl").write_bytes(pickle.dumps({"infos": []})), r"not an info of format 1\.1"),
        (lambda f: (f / "a.pkl").write_bytes(pickle.dumps([1, 2])), r"not an info of format 1\.1"),
    ],
)
def test_a_bad_folder_is_refused_with_one_sentence(tmp_path, spoil, sentence):
    write_images(tmp_path, [f"{camera.lower()}.png" for camera in CAMERAS])
    spoil(tmp_path)
    with pytest.raises(VerifyError, match=sentence) as caught:
        load_frame(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["file.txt", "gone"])
def test_a_frame_is_a_folder(tmp_path, path):
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(VerifyError, match="is not a folder"):
        load_frame(tmp_path / path)


def test_too_flat_an_image_is_refused():
    with pytest.raises(VerifyError, match="1600x400 is too flat"):
        crop(np.zeros((400, 1600, 3), np.uint8))


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_an_info_file_cannot_run_code(tmp_path):
    marker = tmp_path / "ran"
    (tmp_path / "frame.pkl").write_bytes(pickle.dumps({"data_list": [Malicious(marker)]}))
    with pytest.raises(VerifyError, match=r"names posix\.mkdir, which is no plain data"):
        load_frame(tmp_path)
    assert not marker.exists()


def test_numpy_values_pass_the_restricted_reader(tmp_path):
    content = {"array": np.arange(6.0).reshape(2, 3), "scalar": np.float64(1.5), "list": [1, "a", None, True]}
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(content))
    found = restricted_pickle.load(tmp_path / "plain.pkl")
    np.testing.assert_array_equal(found.pop("array"), content.pop("array"))
    assert found == content
