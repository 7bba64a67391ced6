"""Checkpoints are whole or not there, plain, kept in number, and found again without the damaged ones."""

from __future__ import annotations

import collections
import os
import pickle
import resource
import signal
import zipfile

import numpy as np
import pytest
import torch

from racdino.training.checkpoints import CheckpointStore, Position, plain, write_checkpoint
from racdino.weights.checkpoint import CheckpointError, read_checkpoint


@pytest.fixture
def small_files():
    """No file may grow beyond 64 KiB, as on a disk that fills up."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def content(value=1.0, size=8):
    return {"state_dict": {"w": torch.full((size,), float(value))}, "meta": {"epoch": 1}}


def test_what_training_saves_comes_back_from_the_safe_reader(tmp_path):
    saved = {
        "numbers": (1, -(2**70), 2**40, 1.5, True, None, "text"),
        "nested": collections.OrderedDict(a=[np.float32(2.5), np.arange(3)], b={3: torch.ones(2).bfloat16()}),
        "view": torch.arange(1000.0)[10:12],
    }
    write_checkpoint(tmp_path / "c.pth", saved)
    read = read_checkpoint(tmp_path / "c.pth")
    assert read["numbers"] == saved["numbers"]
    assert read["nested"]["a"][0] == 2.5
    assert read["nested"]["a"][1].tolist() == [0, 1, 2]
    assert read["nested"]["b"][3].dtype == torch.bfloat16
    assert read["view"].tolist() == [10.0, 11.0]
    assert (tmp_path / "c.pth").stat().st_size < 4000  # the view did not take its whole storage along


def test_an_object_that_is_not_plain_is_refused_by_name():
    with pytest.raises(TypeError, match="cannot hold set"):
        plain({"state": {1, 2}})


def test_torch_reads_our_checkpoints_as_well(tmp_path):
    write_checkpoint(tmp_path / "c.pth", content())
    assert torch.load(tmp_path / "c.pth")["state_dict"]["w"].tolist() == [1.0] * 8


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, small_files):
    store = CheckpointStore(tmp_path)
    store.save(Position(1, 0), content(1))
    with pytest.raises(OSError, match="File too large"):
        store.save(Position(1, 0), content(2, size=1 << 20))
    assert {path.name for path in tmp_path.iterdir()} == {"epoch_1.pth", "latest.pth"}
    assert read_checkpoint(tmp_path / "epoch_1.pth")["state_dict"]["w"][0] == 1


def test_only_the_newest_of_each_kind_are_kept(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    for epoch in range(5):
        store.save(Position(epoch, 3), content())
        store.save(Position(epoch, 6), content())
        store.save(Position(epoch + 1, 0), content())
    assert store.positions() == [(4, 0), (4, 3), (4, 6), (5, 0)]
    assert str((tmp_path / "latest.pth").readlink()) == "epoch_5.pth"


def test_keeping_none_in_particular_keeps_all(tmp_path):
    store = CheckpointStore(tmp_path)
    for epoch in range(1, 12):
        store.save(Position(epoch, 0), content())
    assert [position.epoch for position in store.positions()] == list(range(1, 12))  # by number, not by spelling


def flip(path):
    data = bytearray(path.read_bytes())
    data[data.index(torch.full((8,), 2.0).numpy().tobytes())] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def empty(path):
    path.write_bytes(b"")


class _Malicious:
    def __reduce__(self):
        return os.system, ("touch executed",)


def malicious(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(_Malicious(), protocol=2))


@pytest.mark.parametrize("damage", [flip, cut, empty, malicious])
def test_a_damaged_checkpoint_is_told_from_a_whole_one(tmp_path, monkeypatch, damage):
    monkeypatch.chdir(tmp_path)
    store = CheckpointStore(tmp_path)
    store.save(Position(1, 0), content(1))
    store.save(Position(1, 4), content(2))
    damage(store.path(Position(1, 4)))
    (newest, error), (before, whole) = store.newest()
    assert isinstance(error, CheckpointError)
    assert "epoch_1_iter_4.pth" in str(error)
    assert (newest.name, before.name) == ("epoch_1_iter_4.pth", "epoch_1.pth")
    assert whole["state_dict"]["w"][0] == 1
    assert not (tmp_path / "executed").exists()


def test_what_a_killed_writer_left_is_removed_and_never_taken_for_a_checkpoint(tmp_path):
    store = CheckpointStore(tmp_path)
    (tmp_path / "epoch_3.pth.part").write_bytes(b"half")
    assert store.positions() == []
    store.remove_partial()
    assert list(tmp_path.iterdir()) == []
