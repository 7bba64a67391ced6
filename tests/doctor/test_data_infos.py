"""Info files are told apart by their opcodes, are never unpickled, and weights by their bytes."""

from __future__ import annotations

import hashlib
import os
import pickle
import zipfile

import numpy as np
import pytest

from racdino.doctor.checkout import weight_files
from racdino.doctor.checkout.info_file import read_info_file
from racdino.doctor.checkout.infos import fault_of
from racdino.doctor.checkout.weight_files import defect
from racdino.weights.catalogue import Architecture, Published
from scripts.drill.small_data import write_infos


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(("first", "expected"), [(0, ""), (1, "width before length")])
def test_the_axis_that_vehicles_are_long_along(tmp_path, protocol, first, expected):
    write_infos(tmp_path / "a.pkl", first=first, protocol=protocol)
    info = read_info_file(tmp_path / "a.pkl")
    assert len(info.boxes) == 10
    assert info.long_axis == first
    assert fault_of(info)[: len(expected) + 40].find(expected) >= 0
    assert bool(fault_of(info)) is bool(expected)


def test_few_or_doubtful_boxes_say_nothing(tmp_path):
    write_infos(tmp_path / "a.pkl", gt_boxes=np.ones((50, 7)))
    assert read_info_file(tmp_path / "a.pkl").long_axis is None
    write_infos(tmp_path / "b.pkl", gt_boxes=np.zeros((0, 7)))
    assert fault_of(read_info_file(tmp_path / "b.pkl")) == ""


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty"),
        (b"<html>", "no pickle"),
        (b"\x80\x04", "ends early"),
        (b"\x80\x04\xff\xff", "ends early"),
        (pickle.dumps({"data_list": [], "metainfo": {}}), "1.1"),
        (pickle.dumps([1]), "no infos"),
        (b"\x80\x04\x8e" + (2**62).to_bytes(8, "little"), "ends early"),
    ],
)
def test_what_is_no_info_file_is_named(tmp_path, content, expected):
    (tmp_path / "a.pkl").write_bytes(content)
    assert expected in fault_of(read_info_file(tmp_path / "a.pkl"))


def test_a_pickle_is_not_unpickled(tmp_path):
    class Runs:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"infos": [Runs()]}))
    assert fault_of(read_info_file(tmp_path / "a.pkl")) == ""
    assert not (tmp_path / "ran").exists()


def test_a_large_file_is_read_in_part(tmp_path):
    frame = {"cams": {}, "rads": {}, "sweeps": [], "gt_boxes": np.ones((9, 7))}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"infos": [dict(frame, rest=f"{n:>1000}") for n in range(9000)]}))
    assert (tmp_path / "a.pkl").stat().st_size > 8 << 20
    assert fault_of(read_info_file(tmp_path / "a.pkl")) == ""


def checkpoint(path, name="archive/data.pkl"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, bytes(5000))
    return path


def test_whole_checkpoints_have_no_defect(tmp_path):
    assert defect(checkpoint(tmp_path / "a.pth")) == ""
    (tmp_path / "old.pth").write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2))  # torch before 1.6
    assert defect(tmp_path / "old.pth") == ""


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty"),
        (b"\n<!DOCTYPE html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git-lfs"),
        (b"hello", "no checkpoint"),
        (b"PK\x03\x04" + bytes(100), "ends early"),
    ],
)
def test_what_is_no_checkpoint_is_named(tmp_path, content, expected):
    (tmp_path / "a.pth").write_bytes(content)
    assert expected in defect(tmp_path / "a.pth")


def test_a_zip_of_something_else_and_a_folder_are_named(tmp_path):
    assert "data.pkl" in defect(checkpoint(tmp_path / "a.pth", "readme.txt"))
    assert "no file" in defect(tmp_path)
    os.mkfifo(tmp_path / "pipe.pth")
    assert "no file" in defect(tmp_path / "pipe.pth")


def test_published_files_are_compared_by_size_and_hash(tmp_path, monkeypatch):
    path = checkpoint(tmp_path / "mine_pretrain.pth")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    whole = Published("mine", digest, Architecture(1, 1, 1), len(content))
    monkeypatch.setattr(weight_files, "CATALOGUE", {"mine": whole})
    assert defect(path) == ""
    monkeypatch.setattr(weight_files, "CATALOGUE", {"mine": Published("mine", digest, whole.architecture, 7)})
    assert "has 5" in defect(path)
    monkeypatch.setattr(weight_files, "CATALOGUE", {"mine": Published("mine", "0" * 64, whole.architecture)})
    assert "sha256" in defect(path)
