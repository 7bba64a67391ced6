"""Images decoded at reduced size keep their place, and damaged files are named."""

import cv2
import numpy as np
import pytest
from PIL import Image

from racdino.data import images
from racdino.data.augmentation import ImageTransform

WHOLE = ImageTransform((360, 640), (158, 281), 30, 10, (128, 256), False)


@pytest.fixture
def path(tmp_path):
    random = np.random.default_rng(0)
    picture = cv2.resize(random.integers(0, 256, (45, 80, 3), np.uint8), (640, 360), interpolation=cv2.INTER_CUBIC)
    path = tmp_path / "front.jpg"
    path.write_bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
    return path


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


@pytest.mark.parametrize("flip", [False, True])
def test_legacy_decode_is_pillows_resize_of_the_whole_image(path, flip):
    transform = ImageTransform((360, 640), (158, 281), 30, 10, (128, 256), flip)
    whole = Image.fromarray(cv2.imread(str(path))).resize((281, 158), Image.Resampling.BICUBIC)
    expected = np.asarray(whole.crop((10, 30, 266, 158)))
    expected = expected[:, ::-1] if flip else expected
    np.testing.assert_array_equal(images.load(str(path), transform, legacy_decode=True), expected)


@pytest.mark.parametrize("resized", [(137, 243), (158, 281), (198, 352)])  # 0.38, 0.44, 0.55
def test_reduced_decoding_shows_the_same_picture_at_the_same_place(path, resized):
    transform = ImageTransform((360, 640), resized, resized[0] - 128, 0, (128, 240), False)
    ours, legacy = (images.load(str(path), transform, legacy) for legacy in (False, True))
    assert psnr(ours, legacy) > 36
    for shift in (1, -1):  # half a pixel of misplacement would show here
        assert psnr(ours, np.roll(legacy, shift, axis=1)) < psnr(ours, legacy) - 12


def test_decoders_give_the_same_pixels(path, monkeypatch):
    if images._turbojpeg() is None:
        pytest.skip("this system has no libturbojpeg")
    turbo = [images.decode(str(path), reduction) for reduction in (1, 2, 4)]
    monkeypatch.setattr(images, "_turbojpeg", lambda: None)
    for image, reduction in zip(turbo, (1, 2, 4), strict=True):
        np.testing.assert_array_equal(image, images.decode(str(path), reduction))


def test_what_lies_outside_the_resized_image_is_black(path):
    transform = ImageTransform((360, 640), (158, 281), -10, 0, (168, 300), False)
    image = images.load(str(path), transform)
    assert not image[:10].any()
    assert not image[:, 281:].any()
    assert image[10:, :281].any()


def test_a_file_is_decoded_once_and_cannot_be_written_to(path, monkeypatch):
    images.load.cache_clear()
    calls = []
    decode = images.decode
    monkeypatch.setattr(images, "decode", lambda *arguments: calls.append(arguments) or decode(*arguments))
    first, second = images.load(str(path), WHOLE), images.load(str(path), WHOLE)
    assert len(calls) == 1
    np.testing.assert_array_equal(first, second)
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0, 0] = 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: b"", "is empty"),
        (lambda content: content[: len(content) // 2], "is cut off"),
        (lambda content: b"no image at all", "cannot be decoded: it is damaged or no image"),
        (lambda content: content[:2] + b"\0" * 500 + content[-2:], "cannot be decoded"),
    ],
    ids=["empty", "truncated", "no image", "overwritten"],
)
def test_a_damaged_image_is_named(path, damage, message):
    path.write_bytes(damage(path.read_bytes()))
    images.load.cache_clear()
    with pytest.raises(images.ImageFileError, match=rf"front\.jpg {message}"):
        images.load(str(path), WHOLE)


def test_an_image_of_another_size_is_named_with_both_sizes(path):
    transform = ImageTransform((900, 1600), (396, 704), 140, 0, (256, 704), False)
    with pytest.raises(images.ImageFileError, match=r"front\.jpg is 640x360 pixels, where ida_aug_conf says 1600x900"):
        images.load(str(path), transform)
