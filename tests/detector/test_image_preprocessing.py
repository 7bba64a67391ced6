"""Colour augmentation against OpenCV, normalisation against numpy, and every random choice a function of the sample."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from racdino.detector.image_preprocessing import ImagePreprocessing, grid_mask, photometric, shift_hsv
from racdino.detector.randomness import SampleRandom

NORM = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "to_rgb": True}
PAD = {"size_divisor": 32}


def images(batch=2, count=3, size=(30, 44), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, count, 3, *size), generator=generator, dtype=torch.uint8)


def test_evaluation_is_rgb_normalised_and_padded_right_and_below():
    x = images()
    out = ImagePreprocessing(NORM, PAD, img_color_aug=True)(x, None)
    assert out.shape == (2, 3, 3, 32, 64)
    rgb = x.numpy().astype(np.float64)[:, :, ::-1]
    mean, std = (np.array(NORM[key])[:, None, None] for key in ("mean", "std"))
    np.testing.assert_allclose(out[..., :30, :44].numpy(), (rgb - mean) / std, rtol=1e-5, atol=1e-5)
    assert not out[..., 30:, :].any()
    assert not out[..., 44:].any()


@pytest.mark.parametrize(("hue", "saturation"), [(0.0, 1.0), (15.0, 1.0), (-18.0, 0.5), (7.0, 1.5)])
def test_hue_and_saturation_are_those_of_opencv(hue, saturation):
    x = images(1, 1, (24, 24))[0].float()
    x[..., :3] = 120  # grey has no hue
    hsv = cv2.cvtColor(x[0].permute(1, 2, 0).numpy(), cv2.COLOR_BGR2HSV)
    hsv[..., 0] = (hsv[..., 0] + hue) % 360
    hsv[..., 1] *= saturation
    expected = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    out = shift_hsv(x, torch.tensor([hue]), torch.tensor([saturation]))[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(out, expected, atol=2e-3)


def draws(**chosen):
    """Numbers that choose nothing but what is named: index of the draw to its value."""
    row = torch.full((1, 12), 0.99)
    for index, value in chosen.items():
        row[0, int(index[1:])] = value
    return row


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (draws(), lambda x: x),
        (draws(_0=0.0, _6=0.75), lambda x: x + 16),  # brightness
        (draws(_1=0.0, _9=0.25), lambda x: x * 0.75),  # contrast
        (draws(_4=0.0, _10=0.5, _11=0.9), lambda x: x[:, [1, 0, 2]]),  # channels
    ],
)
def test_each_operation_does_what_it_says(row, expected):
    x = images(1, 1)[0].float()
    torch.testing.assert_close(photometric(x, row), expected(x), rtol=1e-4, atol=1e-2)


def test_all_channel_orders_occur_and_half_of_the_images_keep_theirs():
    x = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1).expand(2000, 3, 1, 1)
    row = torch.full((2000, 12), 0.99)
    row[:, [4, 10, 11]] = torch.rand(2000, 3, generator=torch.Generator().manual_seed(0))
    orders, counts = photometric(x, row).flatten(1).round().unique(dim=0, return_counts=True)
    assert len(orders) == 6
    assert counts.max() == pytest.approx(2000 * (0.5 + 0.5 / 6), rel=0.1)


def test_augmentation_depends_on_the_sample_and_not_on_its_batch():
    layer = ImagePreprocessing(NORM, PAD, img_color_aug=True)
    x = images()
    together = layer(x, SampleRandom([7, 8]))
    torch.testing.assert_close(layer(x[1:], SampleRandom([8])), together[1:], rtol=0, atol=0)
    assert not torch.equal(layer(x[1:], SampleRandom([9])), together[1:])


def test_grid_mask_deletes_a_quarter_in_squares():
    like = torch.zeros(3, 128, 192)
    mask = grid_mask([0.0, 14 / 126, 0.0, 0.0], like)  # period 16, squares of 8
    assert mask.mean() == pytest.approx(0.75)
    assert not mask[:8, :8].any()
    assert mask[8:16].all()
    assert mask[:, 8:16].all()


def test_grid_mask_is_used_for_seven_samples_in_ten():
    layer = ImagePreprocessing(NORM, PAD)
    x = torch.full((1, 2, 3, 32, 32), 255, dtype=torch.uint8)
    masked = [bool((layer(x, SampleRandom([key])) == 0).any()) for key in range(200)]
    assert np.mean(masked) == pytest.approx(0.7, abs=0.1)
    off = ImagePreprocessing(NORM, PAD, use_grid_mask=False)
    assert all((off(x, SampleRandom([key])) != 0).all() for key in range(20))
