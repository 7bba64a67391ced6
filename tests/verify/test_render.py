"""The rendered frame is the same every time, six views of one street."""

from __future__ import annotations

import numpy as np

from racdino.verify.render import Camera, render_frame
from racdino.verify.render.ground import draw_background
from racdino.verify.render.scene import build_scene


def test_the_same_seed_gives_the_same_pixels(rendered):
    again = render_frame()
    assert all(np.array_equal(a, b) for a, b in zip(rendered.images, again.images, strict=True))
    assert rendered.synthetic
    assert "rendered" in rendered.name


def test_another_seed_gives_another_street():
    camera = Camera(0, 0.8, 176, 99)
    first, second = (draw_background(camera, build_scene(np.random.RandomState(seed))) for seed in (1, 2))
    assert not np.array_equal(first, second)


def test_cameras_see_different_things(rendered):
    stacked = np.stack([image[::8, ::8].astype(float) for image in rendered.images])
    for i in range(6):
        for j in range(i):
            assert np.abs(stacked[i] - stacked[j]).mean() > 15


def test_a_point_projects_where_its_ray_leaves():
    """Camera geometry against itself: the ray of the pixel that a point projects to meets the point again."""
    camera = Camera(55, 0.8, 400, 300)
    point = camera.position + np.array([4.0, 6.5, 0.4])
    u, v = camera.project(camera.to_camera(point[None]))[0]
    ray = camera.rays()[int(v), int(u)]
    direction = (point - camera.position) / np.linalg.norm(point - camera.position)
    np.testing.assert_allclose(ray, direction, atol=5e-3)
