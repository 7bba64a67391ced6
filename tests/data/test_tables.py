"""Tables read as a stream hold what json and the devkit hold."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from pyquaternion import Quaternion

from racdino.data import records
from racdino.data.quaternions import conjugate, is_rotation, product, rotation_matrix, yaw
from racdino.data.records import TableError, read_records
from racdino.data.tables import LIDAR, key_frames, read_tables


class Counter:
    n = 0

    def update(self, n):
        self.n += n


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize("indent", [None, 0, 2])
def test_records_are_jsons_whatever_the_chunks_and_the_layout(tmp_path, monkeypatch, chunk, indent):
    monkeypatch.setattr(records, "_CHUNK_BYTES", chunk)
    rows = [
        {"token": "a}]", "values": [1.5, [2], float("inf")], "text": 'é"\\ 新加坡', "n": None},
        {},
        {"b": {"c": True}},
    ]
    path = tmp_path / "table.json"
    path.write_text(json.dumps(rows, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")
    digest, counter = hashlib.sha256(), Counter()
    assert list(read_records(path, digest, counter)) == rows
    assert digest.digest() == hashlib.sha256(path.read_bytes()).digest()
    assert counter.n == path.stat().st_size


def test_an_empty_table_has_no_records(tmp_path):
    (tmp_path / "table.json").write_text("[]")
    assert list(read_records(tmp_path / "table.json", hashlib.sha256(), Counter())) == []


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.999])
def test_a_table_cut_anywhere_is_an_error(tmp_path, keep):
    text = json.dumps([{"token": str(k), "next": ""} for k in range(50)], indent=0)
    (tmp_path / "table.json").write_text(text[: int(len(text) * keep)])
    with pytest.raises(TableError, match=r"table\.json is cut off or damaged"):
        list(read_records(tmp_path / "table.json", hashlib.sha256(), Counter()))


def test_tables_hold_what_the_devkit_holds(prepared):
    root, _, nusc = prepared
    tables = read_tables(root, "v1.0-mini", Counter())
    assert [(scene.name, scene.token) for scene in tables.scenes] == [(s["name"], s["token"]) for s in nusc.scene]
    for scene in tables.scenes:
        record = nusc.get("scene", scene.token)
        assert len(scene.samples) == record["nbr_samples"]
        assert scene.samples[0].token == record["first_sample_token"]
        assert scene.samples[-1].token == record["last_sample_token"]
        frames = key_frames(scene, tables.sensors)
        for sample in scene.samples:
            expected = nusc.get("sample", sample.token)
            assert sample.timestamp == expected["timestamp"]
            assert {channel: row.token for channel, row in frames[sample.token].items()} == expected["data"]
            mine = [row.token for row in scene.annotations.values() if row.sample_token == sample.token]
            assert mine == expected["anns"]
        for row in scene.data.values():
            theirs = nusc.get("sample_data", row.token)
            assert row._asdict() == {key: theirs[key] for key in row._fields}
            pose = tables.ego_pose(row.ego_pose_token)
            ego = nusc.get("ego_pose", row.ego_pose_token)
            assert (pose[0].tolist(), pose[1].tolist()) == (ego["translation"], ego["rotation"])
        lidar = [row for row in scene.data.values() if tables.sensors[row.calibrated_sensor_token].channel == LIDAR]
        assert all(row.is_key_frame for row in lidar)


def test_the_digest_follows_every_table(raw):
    before = read_tables(raw.root, "v1.0-mini", Counter()).digest
    assert read_tables(raw.root, "v1.0-mini", Counter()).digest == before
    for name in ("ego_pose", "sample_annotation", "category", "scene"):
        path = raw.root / "v1.0-mini" / f"{name}.json"
        path.write_text(path.read_text() + "\n")
        after = read_tables(raw.root, "v1.0-mini", Counter()).digest
        assert after != before
        before = after


def test_quaternions_are_pyquaternions():
    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, 50, 4))
    first, second = (q / np.linalg.norm(q, axis=1, keepdims=True) for q in (first, second))
    assert is_rotation(first).all()
    for k in range(50):
        a, b = Quaternion(first[k]), Quaternion(second[k])
        np.testing.assert_allclose(rotation_matrix(first)[k], a.rotation_matrix, atol=1e-12)
        np.testing.assert_allclose(product(first, second)[k], (a * b).elements, atol=1e-12)
        np.testing.assert_allclose(conjugate(first)[k], a.inverse.elements, atol=1e-12)
        assert yaw(first)[k] == pytest.approx(a.yaw_pitch_roll[0], abs=1e-12)


@pytest.mark.parametrize("wrong", [[0, 0, 0, 0], [1, 1, 0, 0], [np.nan, 0, 0, 1], [np.inf, 0, 0, 0], [0.9, 0, 0, 0]])
def test_what_is_no_rotation_is_told(wrong):
    assert not is_rotation(np.array(wrong, float))
