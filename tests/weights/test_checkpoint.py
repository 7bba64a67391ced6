"""Checkpoints are read without executing them: torch's come back equal, malicious and damaged ones are refused."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import random
import zipfile
from collections import OrderedDict

import pytest
import torch
from torch import nn

from racdino.weights.checkpoint import CheckpointError, read_checkpoint


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_what_torch_saves_comes_back(tmp_path):
    base = torch.arange(24.0).view(4, 6)
    dtypes = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16]
    dtypes += [torch.int8, torch.uint8, torch.bool]
    content = {
        "model": nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).state_dict(),  # an OrderedDict with _metadata
        "dtypes": [torch.arange(7).to(dtype) for dtype in dtypes],
        "views": (base, base.t(), base[1:, ::2], base[2], base.new_empty(0), base.new_empty(3, 0), torch.tensor(5.0)),
        "plain": {"epoch": 12, "big": 2**40, "negative": -3, "rate": 1e-4, "name": "ViT", "flags": (True, False, None)},
        3: nn.Parameter(torch.ones(2)),
    }
    torch.save(content, tmp_path / "all.pth")
    expected = torch.load(tmp_path / "all.pth", **({"weights_only": False} if torch.__version__ >= "2.6" else {}))
    got = read_checkpoint(tmp_path / "all.pth")
    assert same(got, expected)
    assert same(got["views"], content["views"])
    assert got["views"][0].data_ptr() == got["views"][1].data_ptr(), "a shared storage is shared"


def test_safetensors_come_back_and_damaged_ones_are_refused(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    path = tmp_path / "model.safetensors"
    safetensors.save_file({"weight": torch.randn(3, 4)}, str(path))
    assert same(read_checkpoint(path), safetensors.load_file(str(path)))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged or incomplete"):
        read_checkpoint(path)


class Command:
    """Unpickling it runs a shell command."""

    def __init__(self, witness):
        self.command = f"touch {witness}"

    def __reduce__(self):
        return os.system, (self.command,)


class Call:
    """Pickled as a call of ``function`` with ``arguments``."""

    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


class StorageId:
    def __init__(self, *described):
        self.described = described


class ArchivePickler(pickle.Pickler):
    def persistent_id(self, value):
        return value.described if isinstance(value, StorageId) else None


def archive(path, content, records=None, protocol=2, compression=zipfile.ZIP_STORED):
    """A zip archive as torch.save lays it out; ``content`` is pickled, or given as bytes."""
    if not isinstance(content, bytes):
        buffer = io.BytesIO()
        ArchivePickler(buffer, protocol).dump(content)
        content = buffer.getvalue()
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", content)
        for name, data in (records or {}).items():
            file.writestr(f"archive/data/{name}", data)
    return path


def tensor(offset=0, size=(2, 2), stride=(2, 1), count=4, kind=torch.FloatStorage, key="0", word="storage"):
    storage = StorageId(word, kind, key, "cpu", count)
    return Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, OrderedDict())


def test_the_archives_written_here_are_what_the_reader_accepts(tmp_path):
    """So that the refusals below are for the reason they name."""
    path = archive(tmp_path / "good.pth", {"weight": tensor()}, {"0": torch.arange(4.0).numpy().tobytes()})
    assert same(read_checkpoint(path), {"weight": torch.arange(4.0).view(2, 2)})


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_command_in_the_pickle_is_not_executed(tmp_path, protocol):
    witness = tmp_path / "executed"
    pickle.loads(pickle.dumps(Command(witness), protocol))
    assert witness.exists(), "the attack works on pickle"
    witness.unlink()
    path = archive(tmp_path / "evil.pth", {"weight": Command(witness)}, protocol=protocol)
    with pytest.raises(CheckpointError, match=r"evil\.pth (asks for (posix|os)\.system|has a data\.pkl (of|with))"):
        read_checkpoint(path)
    assert not witness.exists()


def test_a_command_saved_by_torch_is_not_executed(tmp_path):
    witness = tmp_path / "executed"
    torch.save({"weight": torch.ones(2), "hook": Command(witness)}, tmp_path / "evil.pth")
    with pytest.raises(
        CheckpointError, match=r"asks for (posix|nt)\.system, which no weights need: refused, nothing was executed"
    ):
        read_checkpoint(tmp_path / "evil.pth")
    assert not witness.exists()


@pytest.mark.parametrize("write", ["torch", "pickle"])
def test_legacy_formats_are_refused_unread(tmp_path, write):
    witness = tmp_path / "executed"
    path = tmp_path / "legacy.pth"
    if write == "torch":
        torch.save({"hook": Command(witness)}, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps(Command(witness)))
    with pytest.raises(
        CheckpointError, match=r"legacy\.pth is not in torch's zip format: .* save it again with torch >= 1\.6"
    ):
        read_checkpoint(path)
    assert not witness.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Call(eval, "1"), r"asks for builtins\.eval|asks for __builtin__\.eval"),
        (Call(getattr, "x", "y"), "getattr"),
        (Call(torch.load, "x"), r"asks for torch\.serialization\.load"),
        (torch.float32, "asks for torch.float32"),
        (Call(OrderedDict, [("a", 1)]), "cannot be called"),
        (Call(torch._utils._rebuild_tensor_v2, 1, 0, (1,), (1,)), "int where _Storage belongs"),
        (Call(torch._utils._rebuild_parameter, "x", True, None), "str where Tensor belongs"),
        ({("deeply", "nested"): 1}, "tuple where str belongs"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_everything_outside_the_allow_list_is_refused(tmp_path, content, message):
    path = archive(tmp_path / "odd.pth", {"weight": content} if not isinstance(content, dict) else content)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)


def test_state_for_an_object_is_not_applied(tmp_path):
    """BUILD could set attributes of what GLOBAL names; here it is accepted on an OrderedDict only, and dropped."""
    program = b"\x80\x02ccollections\nOrderedDict\n}X\x04\x00\x00\x00nameX\x01\x00\x00\x00xsb."
    with pytest.raises(CheckpointError, match="_Global where OrderedDict belongs"):
        read_checkpoint(archive(tmp_path / "odd.pth", program))
    program = b"\x80\x02ccollections\nOrderedDict\n)R}X\x04\x00\x00\x00nameX\x01\x00\x00\x00xsb."
    assert vars(read_checkpoint(archive(tmp_path / "even.pth", program))) == {}


@pytest.mark.parametrize(
    "described",
    [
        {"offset": 1},
        {"offset": -1},
        {"offset": 2**62},
        {"size": (3, 2)},
        {"size": (2, 2), "stride": (2, 2)},
        {"size": (2, 2), "stride": (-2, 1)},
        {"size": (2, -2)},
        {"size": (2, 2), "stride": (1,)},
        {"size": (10**12,), "stride": (0,)},
        {"size": (2**40, 2**40), "stride": (0, 0)},
        {"size": (2.0, 2)},
        {"size": (True, 2)},
        {"size": [2, 2]},
        {"count": 5},
        {"count": 10**15},
        {"count": -4},
        {"count": True},
        {"kind": torch.DoubleStorage},
        {"kind": OrderedDict},
        {"key": "1"},
        {"key": "../data.pkl"},
        {"key": 0},
        {"word": "module"},
    ],
    ids=str,
)
def test_tensors_outside_their_storage_are_refused(tmp_path, described):
    path = archive(tmp_path / "absurd.pth", {"weight": tensor(**described)}, {"0": bytes(16)})
    with pytest.raises(CheckpointError, match=r"absurd\.pth (has|promises) "):
        read_checkpoint(path)


def test_a_compressed_record_is_refused(tmp_path):
    path = archive(tmp_path / "bomb.pth", {}, {"0": bytes(1 << 20)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match=r"compressed or encrypted record archive/data\.pkl"):
        read_checkpoint(path)


def test_a_huge_pickle_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("racdino.weights.checkpoint._MAX_PICKLE_BYTES", 1000)
    path = archive(tmp_path / "huge.pth", {"x": "y" * 1000})
    with pytest.raises(CheckpointError, match=r"has a data\.pkl of 10\d\d bytes, more than any model needs"):
        read_checkpoint(path)


def test_deep_nesting_does_not_overflow_the_stack(tmp_path):
    deep = b"\x80\x02)" + b"\x85" * 300_000  # tuples in tuples
    assert read_checkpoint(archive(tmp_path / "deep.pth", deep + b".")) is not None
    for use in (b"}\x94", b"q\x00}h\x00K\x01s."):  # as a key of a dict, which would hash it
        with pytest.raises(CheckpointError):
            read_checkpoint(archive(tmp_path / "deep.pth", deep + use))


def test_other_zip_archives_are_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.pth", "w") as file:
        file.writestr("a.txt", "a")
    with pytest.raises(CheckpointError, match=r"is a zip archive, but not one of torch\.save"):
        read_checkpoint(tmp_path / "photos.pth")


def test_truncated_files_are_refused(tmp_path):
    torch.save({"weight": torch.randn(1000)}, tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    for length in (0, 3, 4, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "part.pth").write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"part\.pth is (damaged or incomplete|not in torch's zip format)"):
            read_checkpoint(tmp_path / "part.pth")


def test_a_flipped_bit_in_a_tensor_is_noticed(tmp_path):
    path = tmp_path / "flipped.pth"
    torch.save({"weight": torch.full((1000,), 3.0)}, path)
    whole = bytearray(path.read_bytes())
    at = whole.index(torch.full((10,), 3.0).numpy().tobytes())
    whole[at + 5] ^= 1
    path.write_bytes(whole)
    with pytest.raises(CheckpointError, match=r"is damaged or incomplete in record .*data/0"):
        read_checkpoint(path)


def test_random_changes_of_the_archive_never_do_more_than_raise(tmp_path):
    whole = archive(tmp_path / "good.pth", {"a": tensor()}, {"0": bytes(16)}).read_bytes()
    chance = random.Random(0)
    for _ in range(600):
        changed = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            changed[chance.randrange(4, len(changed))] = chance.randrange(256)
        (tmp_path / "fuzz.pth").write_bytes(changed)
        with contextlib.suppress(CheckpointError):
            assert torch.equal(read_checkpoint(tmp_path / "fuzz.pth")["a"], torch.zeros(2, 2))


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")  # pickletools reading nonsense
def test_random_changes_of_the_pickle_never_do_more_than_raise(tmp_path):
    buffer = io.BytesIO()
    content = {"a": tensor(), "b": [tensor(offset=1, size=(3,), stride=(1,)), (1, 2.0, "x")], "c": OrderedDict(d=1)}
    ArchivePickler(buffer, 2).dump(content)
    chance = random.Random(0)
    refused = 0
    for _ in range(400):
        program = bytearray(buffer.getvalue())
        for _ in range(chance.randint(1, 3)):
            program[chance.randrange(len(program))] = chance.randrange(256)
        path = archive(tmp_path / "fuzz.pth", bytes(program), {"0": bytes(16)})
        try:
            read_checkpoint(path)
        except CheckpointError:
            refused += 1
    assert refused > 200
