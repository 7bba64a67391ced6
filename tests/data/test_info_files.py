"""read_infos takes what prepare wrote and says in one sentence what any other file is."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest

from racdino.data.info import FORMAT, InfoFileError, read_info_file, read_infos


class Evil:
    def __reduce__(self):
        return warnings.warn, ("executed",)


def info(**changes):
    boxes = np.array([[0, 0, 0, 4.6, 1.9, 1.7, 0.1], [9, 0, 0, 0.7, 0.7, 1.7, 0.1]])
    names = np.array(["car", "pedestrian"])
    ours = {"scene_token": "s", "prev": "", "radar_history": {}}
    return {"token": "t", "gt_boxes": boxes, "gt_names": names, **ours, **changes}


def without(*keys, **changes):
    return {key: value for key, value in info(**changes).items() if key not in keys}


def write(folder, content):
    path = folder / "infos.pkl"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, 4))
    return path


def file(*infos, racdino=FORMAT):
    return {"infos": list(infos), "metadata": {"version": "v1.0-mini", **({"racdino": racdino} if racdino else {})}}


def test_what_was_written_is_read(tmp_path):
    (read,) = read_infos(write(tmp_path, file(info())))
    np.testing.assert_array_equal(read["gt_boxes"], info()["gt_boxes"])
    assert read["gt_names"].tolist() == ["car", "pedestrian"]


def test_a_split_without_key_frames_is_an_empty_list(tmp_path):
    assert read_infos(write(tmp_path, file())) == []


OLD = np.array([[0, 0, 0, 1.9, 4.6, 1.7, 0.1], [9, 0, 0, 0.7, 0.7, 1.7, 0.1]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"metainfo": {}, "data_list": []}, r"is in the format of mmdet3d 1\.1 and later \(data_list\)"),
        (
            file(without("scene_token", "prev", "radar_history"), racdino=None),
            "was not written by racdino: prev, radar_h",
        ),
        (file(without("radar_history"), racdino=None), "was not written by racdino: radar_history missing"),
        (file(without("radar_history", gt_boxes=OLD), racdino=None), r"has the boxes of mmdet3d before 1\.0"),
        (file(info(), racdino=1), f"is of racdino's format 1, this is {FORMAT}"),
        ([info()], "is no info file: it holds a list without a list of infos"),
        ({"infos": [1]}, "is no info file: its infos are no dictionaries"),
        (b"", "it is damaged"),
        (pickle.dumps(file(info()), 4)[:-50], "cannot be read"),
        (b"version https://git-lfs.github.com/spec/v1", "cannot be read"),
        ({"infos": [Evil()]}, "names _?warnings.warn, which is no plain data"),
    ],
)
def test_any_other_file_is_named_for_what_it_is(tmp_path, content, message):
    path = write(tmp_path, content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing in the file runs
        with pytest.raises(
            InfoFileError, match=f"^Info file {path} .*{message}.*make it anew with `racdino data prepare`"
        ):
            read_info_file(path)


def test_an_absent_file_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(InfoFileError, match=r"infos\.pkl is not there: make it with `racdino data prepare`"):
        read_infos(tmp_path / "infos.pkl")
