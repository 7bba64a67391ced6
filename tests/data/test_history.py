"""The moments before a key frame and the choice among them."""

import numpy as np
import pytest
from small_nuscenes import CAMERAS, SmallNuScenes

from racdino.data.history import choose_steps, draw_interval, past_moments


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return SmallNuScenes(tmp_path_factory.mktemp("nuscenes"), key_frames=4, width=32, height=18)


def front_files(data, index, infos=None):
    infos = infos or {info["token"]: info for info in data.infos}
    moments = past_moments(infos[f"sample-{index}"], infos)
    return [moment.sensors["CAM_FRONT"]["data_path"].removeprefix("data/nuscenes/") for moment in moments]


def chain(data, index):
    """File names by the tables' ``prev``."""
    record = data.get("sample_data", f"CAM_FRONT-{6 * index}")
    names = []
    while record["prev"]:
        record = data.get("sample_data", record["prev"])
        names.append(record["filename"])
    return names


def test_moments_follow_the_cameras_recording_back_to_the_scenes_begin(data):
    assert front_files(data, 3) == chain(data, 3)
    assert front_files(data, 0) == []


def test_every_sixth_moment_is_a_key_frame_even_without_sweeps_on_disk(data):
    infos = {info["token"]: {**info, "sweeps": info["sweeps"][:2]} for info in data.infos}
    assert front_files(data, 3, infos)[5::6] == chain(data, 3)[5::6]
    infos["sample-3"]["sweeps"] = []
    assert front_files(data, 3, infos)[:6] == [chain(data, 3)[5]] * 6


def test_a_sweep_without_a_camera_is_no_moment(data):
    infos = {info["token"]: {**info} for info in data.infos}
    first, *others = infos["sample-3"]["sweeps"]
    infos["sample-3"]["sweeps"] = [{**first, CAMERAS[3]: None}, *others]
    assert front_files(data, 3, infos)[0] == chain(data, 3)[1]


def test_histories_are_no_longer_than_sixty_steps(data):
    infos = {info["token"]: info for info in data.infos}
    infos["sample-0"] = {**infos["sample-3"], "prev": "sample-3"}  # a scene without end
    assert len(past_moments(infos["sample-3"], infos)) == 60


def test_intervals_are_drawn_from_four_to_eight_as_far_as_the_past_lasts():
    random = np.random.default_rng(0)
    assert {draw_interval(60, 7, random) for _ in range(200)} == {4, 5, 6, 7, 8}
    assert {draw_interval(43, 7, random) for _ in range(200)} == {4, 5, 6}
    assert {draw_interval(20, 7, random) for _ in range(200)} == {2}
    assert draw_interval(6, 7, random) == 4


def test_chosen_steps_are_multiples_and_the_oldest_repeats():
    assert choose_steps(60, 7, 6) == [5, 11, 17, 23, 29, 35, 41]
    assert choose_steps(14, 4, 6) == [5, 11, 13, 13]
    assert choose_steps(0, 7, 6) == []
