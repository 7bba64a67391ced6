"""The same parameters give the same bytes, and a data set is whole or not there."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from racdino.synthetic import dataset
from racdino.synthetic.dataset import MARKER, NotSyntheticError, parameters_of, synthesize
from racdino.synthetic.main import main
from racdino.synthetic.parameters import Parameters
from racdino.synthetic.world import World


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
def test_one_worker_writes_the_bytes_of_two(root: Path, tiny: Parameters, tmp_path: Path) -> None:
    assert synthesize(tmp_path / "again", tiny, workers=1)
    assert contents(tmp_path / "again") == contents(root)


def test_another_seed_is_another_world() -> None:
    first, second = (World("scene-0061", "boston-seaport", seed).boxes(0.0).centre[:50] for seed in (0, 1))
    assert not (first == second).all(axis=1).any()


@pytest.fixture
def empty_render(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Rendering leaves the marker alone; the list holds where it was asked to."""
    asked: list[Path] = []

    def render(root: Path, parameters: Parameters, workers: int) -> None:
        asked.append(root)
        root.mkdir()
        (root / MARKER).write_text(f"parameters: {dataset._as_json(parameters)}\n")

    monkeypatch.setattr(dataset, "_render", render)
    return asked


def test_a_data_set_of_the_same_parameters_is_kept(empty_render: list[Path], tmp_path: Path, tiny: Parameters) -> None:
    root = tmp_path / "data"
    assert synthesize(root, tiny)
    (root / "infos.pkl").touch()
    assert not synthesize(root, tiny)
    assert (root / "infos.pkl").exists()


def test_one_of_other_parameters_is_replaced_as_a_whole(
    empty_render: list[Path], tmp_path: Path, tiny: Parameters
) -> None:
    root = tmp_path / "data"
    synthesize(root, tiny)
    (root / "infos.pkl").touch()
    assert synthesize(root, replace(tiny, seed=4))
    assert [path.name for path in root.iterdir()] == [MARKER]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_folder_that_is_not_synthetic_is_never_touched(
    empty_render: list[Path], tmp_path: Path, tiny: Parameters, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nuscenes").mkdir()
    (tmp_path / "nuscenes" / "recording").write_text("mine")
    with pytest.raises(NotSyntheticError, match="did not render"):
        synthesize(tmp_path / "nuscenes", tiny)
    assert main(["--root", str(tmp_path / "nuscenes")]) == 1
    assert "it is kept" in capsys.readouterr().err
    assert empty_render == []
    assert (tmp_path / "nuscenes" / "recording").read_text() == "mine"


def test_an_error_while_rendering_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny: Parameters, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(root: Path, parameters: Parameters, workers: int) -> None:
        root.mkdir()
        (root / "part").touch()
        raise OSError(28, "No space left on device", str(root / "part"))

    monkeypatch.setattr(dataset, "_render", full)
    assert main(["--root", str(tmp_path / "data")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_swap_that_was_killed_halfway_is_undone(empty_render: list[Path], tmp_path: Path, tiny: Parameters) -> None:
    root = tmp_path / "data"
    synthesize(root, tiny)
    root.rename(tmp_path / ".data.old")
    assert not synthesize(root, tiny)
    assert parameters_of(root) is not None


def test_a_killed_run_leaves_neither_a_data_set_nor_workers(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "racdino.synthetic.main", "--root", str(tmp_path / "data")]
    command += ["--scenes", "2", "--samples-per-scene", "40", "--image-size", "160x90", "--workers", "2"]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".data.partial-*/samples/CAM_FRONT/*.jpg")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) >= 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    while any(_runs(child) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not (tmp_path / "data").exists()
    assert not list(tmp_path.rglob(MARKER))


def test_what_a_killed_run_left_is_cleared_away(empty_render: list[Path], tmp_path: Path, tiny: Parameters) -> None:
    (tmp_path / ".data.partial-1" / "samples").mkdir(parents=True)
    assert synthesize(tmp_path / "data", tiny)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--scenes", "1"], "--scenes 1"),
        (["--scenes", "11"], "--scenes 11"),
        (["--samples-per-scene", "1"], "--samples-per-scene 1"),
        (["--image-size", "10x10"], "--image-size 10x10"),
        (["--seed", "-1"], "--seed -1"),
        (["--camera-sweeps", "6"], "--camera-sweeps 6"),
    ],
)
def test_a_bad_option_is_one_sentence_that_names_it(
    arguments: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--root", str(tmp_path / "data"), *arguments]) == 1
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_splits_of_trainval_are_official_too() -> None:
    from nuscenes.utils.splits import train, val

    names = Parameters(version="v1.0-trainval", scenes=20).scene_names()
    assert len(set(names)) == 20
    assert sum(name in val for name in names) == 4
    assert sum(name in train for name in names) == 16


def _runs(pid: str) -> bool:
    """Whether a process is there and no zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
