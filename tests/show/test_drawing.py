"""racdino/show: boxes, radar points and arrows are where they belong, in the colours of their classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from racdino.evaluation import CLASS_NAMES
from racdino.evaluation.detections import Found
from racdino.show import lines
from racdino.show.bev import REACH, draw_bev, to_pixels
from racdino.show.cameras import draw_camera
from racdino.show.palette import CLASS_COLOURS, RADAR, colour
from racdino.show.sheet import BEV, PLACES, compose, views


def has(image: np.ndarray, wanted: tuple[int, int, int]) -> np.ndarray:
    """(H, W) where a pixel is almost ``wanted``."""
    return (np.abs(image.astype(int) - wanted) < 12).all(-1)


def test_every_class_has_a_colour_of_its_own():
    assert set(CLASS_COLOURS) == set(CLASS_NAMES)
    values = np.array(list(CLASS_COLOURS.values()))
    apart = np.abs(values[:, None] - values[None]).sum(-1) + 1000 * np.eye(10)
    assert apart.min() > 40
    assert colour("tram") == (200, 200, 200)


def test_a_camera_shows_what_is_ahead_of_it_and_leaves_the_image_alone(sample):
    front, back = draw_camera(sample, 0), draw_camera(sample, 1)
    assert has(front, colour("car")).any()
    assert not has(front, colour("pedestrian")).any()
    assert has(back, colour("pedestrian")).any()
    assert not has(back, colour("car")).any()
    rows, columns = np.nonzero(has(front, colour("car")))
    # 2 m wide at 13 to 17 m: 250 * 2 / 13 = 38 pixels, around the middle; the score stands above.
    assert columns.min() > 160 - 25
    assert columns.max() < 160 + 25 + 10
    assert rows.max() < 90 + 250 * 1 / 13 + 3
    assert (sample.images[0] == 90).all()


def test_nothing_to_draw_leaves_the_pixels(sample):
    empty = Found(np.zeros((0, 9)), np.zeros(0), np.zeros(0, np.int64))
    picture = draw_camera(replace(sample, truth=None, found=empty), 0)
    assert (picture[:100] == 90).all()  # below is the camera's name


def test_from_above_forward_is_up_and_right_is_right():
    size = 1024
    np.testing.assert_allclose(to_pixels(np.array([0.0, 0.0]), size), [512, 512])
    np.testing.assert_allclose(to_pixels(np.array([0.0, REACH]), size), [512, 0])
    np.testing.assert_allclose(to_pixels(np.array([REACH, 0.0]), size), [1024, 512])


def test_from_above_boxes_arrows_and_radar_points_are_in_their_places(sample):
    picture = draw_bev(replace(sample, truth=None), 1024)
    rows, columns = np.nonzero(has(picture, colour("car")))
    # The car is 2 m wide at y = 13 to 17 m and moves on by 5 m in the second that an arrow lasts.
    assert abs(columns.mean() - 513) < 3
    assert rows.max() == pytest.approx(512 - 10 * 13, abs=6)
    assert rows.min() == pytest.approx(512 - 10 * 20, abs=6)
    assert has(picture, RADAR)[512 - 142 : 512 - 138, 510:515].any()
    dim = picture[512 + 80, 512 + 20]  # the older point is darker
    assert 60 < dim[0] < 150
    assert abs(int(dim[0]) - int(dim[1])) < 5
    assert dim[2] < dim[0]


def test_a_box_outside_the_picture_is_left_out(sample):
    far = sample.found._replace(boxes=np.add(sample.found.boxes, [0, 80, 0, 0, 0, 0, 0, 0, 0]))
    assert not has(draw_bev(replace(sample, truth=None, found=far)), colour("car")).any()


def test_dashes_cover_a_little_more_than_half_of_a_line():
    solid, dashed = (np.zeros((20, 400, 3), np.uint8) for _ in range(2))
    ends = np.array([[10.0, 10], [390, 10]])
    lines.line(solid, ends, (255, 255, 255))
    lines.line(dashed, ends, (255, 255, 255), dashed=True)
    share = dashed[10, :, 0].astype(bool).sum() / solid[10, :, 0].astype(bool).sum()
    assert 0.5 < share < 0.8
    lines.line(dashed, np.array([[5.0, 5], [5, 5]]), (255, 255, 255), dashed=True)  # no length, no error


@pytest.mark.parametrize("at", [(-50, -50), (1e4, 1e4), (5, 5)])
def test_a_label_stays_inside(at):
    canvas = np.full((40, 90, 3), 200, np.uint8)
    lines.text(canvas, "0.83", at, (255, 0, 0))
    assert has(canvas, (255, 0, 0)).any()


def test_views_come_in_the_drivers_order_and_make_one_sheet(sample):
    order = list(reversed(PLACES))
    six = replace(
        sample, cameras=order, images=[sample.images[0]] * 6, lidar2img=np.repeat(sample.lidar2img[:1], 6, axis=0)
    )
    pictures = views(six)
    assert list(pictures) == [*PLACES, BEV]
    height, width = sample.images[0].shape[:2]
    sheet = compose(pictures, six, "sample 1")
    assert sheet.shape == (2 * height + 28, 3 * width + 2 * height, 3)
    np.testing.assert_array_equal(sheet[:height, :width], pictures["CAM_FRONT_LEFT"])
    np.testing.assert_array_equal(sheet[height : 2 * height, 2 * width : 3 * width], pictures["CAM_BACK_RIGHT"])
