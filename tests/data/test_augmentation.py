"""Transforms of images and scenes agree with what they do to pixels, points and velocities."""

import cv2
import numpy as np
import pytest

from racdino.data.augmentation import ImageTransform, SceneTransform, image_transform, sample_key
from racdino.data.images import apply

CONF = {
    "H": 900,
    "W": 1600,
    "final_dim": (256, 704),
    "resize_lim": (0.38, 0.55),
    "bot_pct_lim": (0.0, 0.0),
    "rot_lim": (0.0, 0.0),
    "rand_flip": True,
}


def test_the_test_transform_keeps_the_bottom_256_rows_at_0_44():
    expected = ImageTransform((900, 1600), (396, 704), 140, 0, (256, 704), False)
    assert image_transform(CONF, None) == expected


def test_drawn_transforms_stay_within_their_limits_and_differ():
    random = np.random.default_rng(0)
    drawn = [image_transform(CONF, random) for _ in range(200)]
    widths = [transform.resized[1] for transform in drawn]
    assert 608 <= min(widths) < 630
    assert 860 < max(widths) <= 880
    assert 60 < sum(transform.flip for transform in drawn) < 140
    for transform in drawn:
        assert transform.top + 256 == transform.resized[0]
        assert 0 <= transform.left <= max(0, transform.resized[1] - 704)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("resized", [(396, 704), (342, 608), (495, 880)])  # 608 is narrower than the result
def test_the_matrix_says_where_pixels_go(resized, flip):
    transform = ImageTransform((900, 1600), resized, resized[0] - 256, 20 if resized[1] > 704 else 0, (256, 704), flip)
    image = np.zeros((900, 1600, 3), np.uint8)
    cv2.circle(image, (800, 700), 24, (255, 255, 255), -1)
    weights = apply(image, transform)[..., 0].astype(float)
    rows, columns = np.indices(weights.shape) + 0.5  # pixel coordinates count from the image's edge
    found = [(columns * weights).sum() / weights.sum(), (rows * weights).sum() / weights.sum()]
    u, v, d, _ = transform.matrix() @ [800.5 * 7, 700.5 * 7, 7, 1]
    np.testing.assert_allclose(found, [u / d, v / d], atol=0.06)
    if resized[1] < 704:
        black = apply(np.full_like(image, 255), transform)[..., 0] == 0
        assert black.all(axis=0).sum() == 704 - 608


def test_rotated_images_are_refused():
    with pytest.raises(ValueError, match="rot_lim"):
        image_transform({**CONF, "rot_lim": (-5.4, 5.4)}, None)


def test_a_scene_turns_counter_clockwise_and_velocities_with_it():
    scene = SceneTransform(np.pi / 2, 2.0)
    points = np.array([[1.0, 0, 1, 7, 3, 0, 0.1]])
    np.testing.assert_allclose(scene.radar(points), [[0, 2, 2, 7, 0, 6, 0.1]], atol=1e-12)
    np.testing.assert_allclose(scene.radar(points, legacy_radar_velocity=True), [[0, 2, 2, 7, 3, 0, 0.1]], atol=1e-12)
    np.testing.assert_allclose((scene.matrix() @ [1, 0, 1, 1])[:3], [0, 2, 2], atol=1e-12)


def test_sample_keys_differ_by_seed_epoch_and_index():
    keys = {sample_key(seed, epoch, index) for seed in range(5) for epoch in range(5) for index in range(5)}
    assert len(keys) == 125
    assert all(0 <= key < 2**63 for key in keys)
    assert sample_key(1, 2, 3) == sample_key(np.int64(1), np.int64(2), np.int64(3))
