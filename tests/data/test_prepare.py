"""`racdino data prepare` and `check`: whole or not at all, partial downloads, damage by name, kill and continue."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest
from nuscenes.utils.splits import mini_train, mini_val
from radar_writer import radar_bytes
from raw_nuscenes import RawNuScenes

from racdino.data.info import read_infos
from racdino.data.main import main
from racdino.data.radar_files import read_radar

TRAIN, VAL = "nuscenes_infos_train_mini_sweep.pkl", "nuscenes_infos_val_mini_sweep.pkl"


def run(raw, action="prepare", *options, version="v1.0-mini"):
    return main([action, "--root", str(raw.root), "--version", version, "--workers", "1", *options])


def snapshot(root):
    return {path: path.stat().st_mtime_ns for path in root.rglob("*")}


def infos(raw, name=TRAIN):
    return read_infos(raw.root / name)


def hidden(root):
    return [path.name for path in root.iterdir() if path.name.startswith(".")]


def test_a_whole_data_set_is_prepared_and_passes_the_check(raw, capsys):
    assert run(raw) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{raw.root / TRAIN}: 3 key frames",
        f"{raw.root / VAL}: 3 key frames",
    ]
    assert hidden(raw.root) == []
    before = snapshot(raw.root)
    assert run(raw, "check") == 0
    assert snapshot(raw.root) == before


@pytest.mark.parametrize(
    ("version", "scenes", "splits"),
    [
        ("v1.0-trainval", ("scene-0001", "scene-0003"), ("train", "val")),
        ("v1.0-test", ("scene-0077", "scene-0078"), ("test",)),
    ],
)
def test_each_version_has_its_files(tmp_path, version, scenes, splits):
    files = [f"nuscenes_infos_{split}_sweep.pkl" for split in splits]
    raw = RawNuScenes(tmp_path / "set", version=version, scenes=scenes, samples=2)
    assert run(raw, version=version) == 0
    assert {path.name for path in raw.root.glob("*.pkl")} == set(files)
    for name in files:
        for info in infos(raw, name):
            assert ("gt_boxes" in info) == (version != "v1.0-test")
    assert run(raw, "check", version=version) == 0


def test_paths_inside_the_current_folder_are_relative_to_it(raw, monkeypatch):
    monkeypatch.chdir(raw.root.parent)
    assert run(raw) == 0
    assert infos(raw)[0]["lidar_path"].startswith("nuscenes/samples/LIDAR_TOP/")
    assert infos(raw)[0]["cams"]["CAM_FRONT"]["data_path"].startswith("nuscenes/samples/CAM_FRONT/")


def test_a_link_to_the_data_set_is_kept_in_paths(raw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(raw.root)
    assert main(["prepare", "--root", "data", "--version", "v1.0-mini"]) == 0
    assert infos(raw)[0]["lidar_path"].startswith("data/samples/")


# What is broken, the sentence that names it, what is left out and how many of three key frames remain. The functions
# get the data set and a row: `key`, the channel's key frame in the second sample, or `sweep`, the row before it.


def cut(raw, row):
    path = raw.root / row["filename"]
    path.write_bytes(path.read_bytes()[:-7])


def remove(raw, row):
    (raw.root / row["filename"]).unlink()


def content(data):
    return lambda raw, row: (raw.root / row["filename"]).write_bytes(data)


def pose(**values):
    def change(raw, row):
        (found,) = (pose for pose in raw.tables["ego_pose"] if pose["token"] == row["ego_pose_token"])
        found.update(values)

    return change


def remove_pose(raw, row):
    raw.tables["ego_pose"] = [pose for pose in raw.tables["ego_pose"] if pose["token"] != row["ego_pose_token"]]


def row(**values):
    return lambda raw, row: row.update(values)


def box(**values):
    def change(raw, _):
        sample = raw.tables["sample"][1]["token"]
        next(row for row in raw.tables["sample_annotation"] if row["sample_token"] == sample).update(values)

    return change


def same_time(raw, _):
    raw.tables["sample"][1]["timestamp"] = raw.tables["sample"][0]["timestamp"]


NAN, F = float("nan"), "f" * 32
DAMAGE = {
    "an image cut off": ("CAM_BACK key", cut, "is damaged: it is cut off after", "1 image, 1 sample", 2),
    "an empty image": ("CAM_BACK key", content(b""), "is damaged: it is empty", "1 image, 1 sample", 2),
    "no JPEG": ("CAM_BACK key", content(b"GIF89a"), "is damaged: it is no JPEG", "1 image, 1 sample", 2),
    "an absent image": ("CAM_BACK key", remove, "is not there", "1 image, 1 sample", 2),
    "an image between key frames cut off": ("CAM_BACK sweep", cut, "it is cut off", "1 image", 3),
    "a radar key frame cut off": ("RADAR_FRONT key", cut, "is cut off", "1 radar sweep", 3),
    "an absent radar sweep": ("RADAR_FRONT sweep", remove, "is not there", "1 radar sweep", 3),
    "a radar sweep of another layout": (
        *("RADAR_FRONT sweep", content(radar_bytes([], fields="x y z"))),
        *("has the fields x y z, where nuScenes has", "1 radar sweep", 3),
    ),
    "a LiDAR key frame cut off": ("LIDAR_TOP key", cut, "are no multiple of 20", "1 sample", 2),
    "a NaN in an ego pose": (
        *("CAM_BACK key", pose(translation=[NAN, 1.0, 2.0])),
        *(r"ego_pose/\w+ has the translation \[nan, 1.0, 2.0\]", "1 image, 1 sample", 2),
    ),
    "an ego rotation that is none": (
        *("RADAR_FRONT sweep", pose(rotation=[0.9, 0.9, 0.0, 0.0])),
        *(r"ego_pose/\w+ has the rotation \[0.9, .*\], which is no unit quaternion", "1 radar sweep", 3),
    ),
    "an absent ego pose": (
        *("CAM_BACK key", remove_pose),
        *(r"ego_pose/\w+ is not there, and samples/CAM_BACK/.* needs it", "1 image, 1 sample", 2),
    ),
    "a key frame not after the one before": (
        *("CAM_BACK key", same_time),
        *(r"sample/\w+ is of \d+ us, not after the sample before it", "1 sample", 2),
    ),
    "a radar sweep not after the one before": (
        *("RADAR_FRONT sweep", row(timestamp=0)),
        *(r"sample_data/\w+ is of 0 us, not after the row before it", "", 3),
    ),
    "a key frame without a camera's row": (
        *("CAM_BACK key", row(is_key_frame=False)),
        *(r"sample/\w+ has no key frame of CAM_BACK", "1 sample", 2),
    ),
    "a row before that is not there": (
        *("RADAR_FRONT sweep", row(prev=F)),
        *(f"names {F} as the row before it, which is not there", "", 3),
    ),
    "a box of zero size": (
        *("CAM_BACK key", box(size=[1.5, 0.0, 2.0])),
        *(r"sample_annotation/\w+ has a box of 1.5 x 0 x 2 m", "1 box", 3),
    ),
    "a NaN in a box": (
        *("CAM_BACK key", box(translation=[1.0, NAN, 2.0])),
        *("has a box with a number that is not finite", "1 box", 3),
    ),
    "a box's rotation that is none": (
        *("CAM_BACK key", box(rotation=[0.0, 0.0, 0.0, 0.0])),
        *("which is no unit quaternion", "1 box", 3),
    ),
    "a box with an absent neighbour": (
        *("CAM_BACK key", box(prev=F)),
        *(f"names {F} as its neighbour, which is not there", "", 3),
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named_and_stops_or_is_left_out_and_counted(raw, capsys, name):
    what, damage, sentence, left_out, remaining = DAMAGE[name]
    channel, which = what.split()
    chosen = raw.rows(channel, key_frames=True)[1]
    if which == "sweep":
        (chosen,) = (row for row in raw.rows(channel) if row["token"] == chosen["prev"])
    damage(raw, chosen)
    raw.save()

    assert run(raw) == 1
    shown = capsys.readouterr()
    assert list(raw.root.glob("*.pkl")) == []
    assert shown.err == (
        "racdino data prepare: stopped, no info file was written: "
        "repair the above, or --on-damage skip goes on without it\n"
    )
    listing = raw.root / "racdino_prepare_v1.0-mini.txt"
    assert f"all of them: {listing}" in shown.out
    for text in (shown.out, listing.read_text()):
        assert re.search(sentence, text)

    assert run(raw, "check") == 1
    assert re.search(sentence, capsys.readouterr().out)

    assert run(raw, "prepare", "--on-damage", "skip") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("left out")] == ([f"left out: {left_out}"] if left_out else [])
    kept = infos(raw)
    assert len(kept) == remaining
    assert [info["prev"] for info in kept] == ["", *(info["token"] for info in kept[:-1])]
    for info in kept:
        for history in info["radar_history"].values():
            assert len(history["filename"]) == len(history["timestamp"]) == len(history["ego2global_rotation"])
            for file in history["filename"]:
                read_radar(raw.root / file)
        for moment in info["sweeps"]:
            assert sum(channel.startswith("CAM") for channel in moment) == 6
    assert run(raw, "check") == 1  # the folder is still not whole, but the info files describe it
    assert "Info file" not in capsys.readouterr().out


def test_a_camera_without_an_intrinsic_matrix_is_named_once_and_leaves_nothing(raw, capsys):
    (sensor,) = (s for s in raw.tables["calibrated_sensor"] if s["token"] == raw.sensors["CAM_BACK"][1])
    sensor["camera_intrinsic"] = []
    raw.save()
    assert run(raw, "prepare", "--on-damage", "skip") == 1
    shown = capsys.readouterr()
    assert "1 impossible record: calibrated_sensor 1\n" in shown.out
    assert "of CAM_BACK has an intrinsic matrix that no camera has" in shown.out
    assert "no key frame is whole, no info file was written" in shown.err


def test_a_repaired_data_set_leaves_no_trace_of_its_damage(raw):
    path = raw.root / raw.rows("CAM_FRONT", key_frames=True)[0]["filename"]
    other = raw.root / raw.rows("RADAR_FRONT", key_frames=True)[0]["filename"]
    whole, content = path.read_bytes(), other.read_bytes()
    path.write_bytes(whole[:-5])
    other.unlink()
    assert run(raw) == 1
    path.write_bytes(whole)
    other.write_bytes(content)
    assert run(raw) == 0
    assert len(infos(raw)) == 3
    assert list(raw.root.glob("*.txt")) == []
    assert hidden(raw.root) == []


def test_a_download_of_key_frames_alone_works(raw, capsys):
    sweeps = [path for path in raw.root.glob("sweeps/*/*") if "LIDAR" not in path.name]
    for path in sweeps:
        path.unlink()
    assert run(raw, "prepare", "--on-damage", "skip") == 0
    assert "sweeps/CAM_FRONT" in capsys.readouterr().out
    for info in infos(raw):
        assert info["sweeps"] == []
        assert all(len(history["filename"]) == 1 for history in info["radar_history"].values())


def test_a_download_without_radar_works(raw):
    for path in raw.root.glob("*/RADAR_*/*"):
        path.unlink()
    assert run(raw, "prepare", "--on-damage", "skip") == 0
    for info in infos(raw):
        assert set(info["rads"].values()) == {None}
        assert all(history["ego2global_rotation"].shape == (0, 4) for history in info["radar_history"].values())


def test_a_download_of_one_scene_leaves_the_other_split_empty(raw, capsys):
    for path in raw.root.glob("s*/*/scene-0103__*"):
        path.unlink()
    assert run(raw, "prepare", "--on-damage", "skip") == 0
    assert "left out: 18 images, 15 radar sweeps, 3 samples" in capsys.readouterr().out
    assert (len(infos(raw)), len(infos(raw, VAL))) == (3, 0)


def test_nothing_there_writes_nothing(raw, capsys):
    for path in raw.root.glob("samples/CAM_FRONT/*"):
        path.unlink()
    assert run(raw, "prepare", "--on-damage", "skip") == 1
    assert "no key frame is whole, no info file was written" in capsys.readouterr().err
    assert list(raw.root.glob("*.pkl")) == []


def test_scenes_of_no_official_split_are_left_out_and_counted(tmp_path, capsys):
    raw = RawNuScenes(tmp_path / "set", scenes=("scene-0061", "my-scene"), samples=2)
    assert run(raw) == 0
    assert "1 scenes are in none of nuScenes' official splits" in capsys.readouterr().out


def table(content, name="sample"):
    """A change of one table's file."""

    def change(folder):
        (folder / f"{name}.json").unlink() if content is None else (folder / f"{name}.json").write_bytes(content)

    return lambda _: change


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (table(None, "ego_pose"), r"Table .*ego_pose\.json is not there: unpack the metadata archive"),
        (table(b'[{"token": "a"'), "is cut off or damaged"),
        (table(b'{"a": 1}'), "is not a JSON list of records"),
        (table(b""), "is cut off or damaged"),
        (table(b"[1, 2]"), "is cut off or damaged"),
        (table(b"[\xff\xfe]"), "cannot be read"),
        (table(b'[{"token": "a"}]'), "Row 0 of table .*KeyError"),
        (lambda tables: tables["sample"].pop(1), "lead to .*, which is not there"),
        (lambda tables: tables["scene"].pop(1), r"Row 3 of table .*sample\.json is not as nuScenes"),
        (lambda tables: tables["sample"][0].update(next=""), "belong to no scene's chain"),
        (lambda tables: tables["ego_pose"][5].update(rotation=[1, 0]), r"Row 5 of table .*ego_pose\.json"),
        (lambda tables: tables["sample_data"][5].update(calibrated_sensor_token="x"), "Row 5 of table .*KeyError"),
        (
            lambda tables: [scene.update(name="x") for scene in tables["scene"]],
            "None of the 2 scenes .* official splits",
        ),
    ],
)
@pytest.mark.parametrize("action", ["prepare", "check"])
def test_a_table_that_cannot_be_used_is_named(raw, capsys, damage, sentence, action):
    change = damage(raw.tables)
    raw.save()
    if callable(change):
        change(raw.root / "v1.0-mini")
    assert run(raw, action) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"racdino data {action}: ")
    assert re.search(sentence, line)
    assert list(raw.root.glob("*.pkl")) == []


def test_an_absent_folder_or_version_is_named(raw, tmp_path, capsys):
    assert run(raw, version="v1.0-test") == 2
    assert "has no folder v1.0-test with nuScenes' tables; versions that it has: v1.0-mini" in capsys.readouterr().err
    assert main(["check", "--root", str(tmp_path / "nowhere"), "--version", "v1.0-mini"]) == 2
    assert "There is no folder" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--workers", "0"], ["--on-damage", "maybe"], ["--version", "v2"]])
def test_bad_arguments_are_refused(raw, arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        run(raw, "prepare", *arguments)
    assert exit_.value.code == 2
    assert "racdino data prepare: error: " in capsys.readouterr().err


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(raw, capsys):
    raw.root.chmod(0o555)
    try:
        assert run(raw) == 1
        assert "Permission denied" in capsys.readouterr().err
    finally:
        raw.root.chmod(0o755)


def test_a_full_disk_is_one_sentence_and_no_half_file(raw, capsys, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device", "info file")

    monkeypatch.setattr("racdino.data.parts.os.fsync", full)
    assert run(raw) == 1
    assert capsys.readouterr().err == "racdino data prepare: info file: No space left on device\n"
    assert list(raw.root.glob("*.pkl")) == []
    monkeypatch.undo()
    assert run(raw) == 0


def test_check_names_what_is_out_of_date(raw, capsys):
    assert run(raw, "check") == 1
    assert f"Info file {raw.root / TRAIN} is not there: make it with `racdino data prepare`" in capsys.readouterr().out
    assert run(raw) == 0
    (raw.root / raw.rows("RADAR_FRONT", key_frames=True)[2]["filename"]).unlink()
    capsys.readouterr()
    assert run(raw, "check") == 1
    assert "names other files than the folder has for 1 key frames" in capsys.readouterr().out
    (raw.root / raw.rows("CAM_FRONT", key_frames=True)[2]["filename"]).unlink()
    assert run(raw, "check") == 1
    assert "has 3 key frames where the folder has 2" in capsys.readouterr().out
    raw.tables["sample_annotation"][0]["num_lidar_pts"] += 1
    raw.save()
    assert run(raw, "check") == 1
    assert "was made from other tables" in capsys.readouterr().out


def test_several_workers_write_the_same_bytes(raw):
    assert run(raw) == 0
    first = (raw.root / TRAIN).read_bytes()
    (raw.root / TRAIN).unlink()
    assert main(["prepare", "--root", str(raw.root), "--version", "v1.0-mini", "--workers", "3"]) == 0
    assert (raw.root / TRAIN).read_bytes() == first


def test_two_at_once_are_refused(raw, capsys):
    import fcntl

    (raw.root / raw.rows("CAM_FRONT", key_frames=True)[0]["filename"]).unlink()
    assert run(raw) == 1  # stopped: its folder stays
    (folder,) = raw.root.glob(".racdino_prepare_*")
    with (folder / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run(raw) == 2
    assert "Another `racdino data prepare` is at work" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_between_scenes_it_continues_to_the_same_bytes(tmp_path):
    scenes = (*mini_train[:4], *mini_val)
    raw = RawNuScenes(tmp_path / "set", scenes=scenes, samples=2)
    command = [sys.executable, "-m", "racdino.data", "prepare", "--root", str(raw.root), "--version", "v1.0-mini"]
    command += ["--workers", "2"]
    subprocess.run(command, check=True, capture_output=True)
    expected = {name: (raw.root / name).read_bytes() for name in (TRAIN, VAL)}
    draw = random.Random(0)
    finished = []
    for kill in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        for name in (TRAIN, VAL):
            (raw.root / name).unlink()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wanted = draw.randint(1, 3)
        while process.poll() is None and len(list(raw.root.glob(".racdino_prepare_*/scene-*.json"))) < wanted:
            time.sleep(0.002)
        process.send_signal(kill)
        process.wait()
        reports = list(raw.root.glob(".racdino_prepare_*/scene-*.json"))
        finished.append(len(reports))
        again = subprocess.run(command, capture_output=True, text=True, check=False)
        assert again.returncode == 0, again.stderr
        assert {name: (raw.root / name).read_bytes() for name in (TRAIN, VAL)} == expected
        assert hidden(raw.root) == []
    assert any(0 < count < len(scenes) for count in finished), finished


def test_a_run_killed_after_some_scenes_continues_with_the_others(raw, monkeypatch):
    assert run(raw) == 0
    expected = (raw.root / TRAIN).read_bytes(), (raw.root / VAL).read_bytes()
    from racdino.data import prepare

    real, seen = prepare.scene_infos, []

    def dies_at_the_second(tables, scene, *rest):
        seen.append(scene.name)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return real(tables, scene, *rest)

    monkeypatch.setattr(prepare, "scene_infos", dies_at_the_second)
    for name in (TRAIN, VAL):
        (raw.root / name).unlink()
    assert run(raw) == 130
    assert run(raw) == 0
    assert seen == ["scene-0061", "scene-0103", "scene-0103"]
    assert ((raw.root / TRAIN).read_bytes(), (raw.root / VAL).read_bytes()) == expected
