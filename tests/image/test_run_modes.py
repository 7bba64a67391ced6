"""The image runs for any user, with everything taken from it that an image can do without."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import Image

pytestmark = pytest.mark.container

STRANGER = 12345
# Whatever a cluster may take away, at once.
BARE = (
    *("--user", f"{STRANGER}:{STRANGER}", "--read-only", "--tmpfs", "/tmp"),
    *("--cap-drop", "all", "--security-opt", "no-new-privileges", "--network", "none"),
)
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may give a folder to another user")


def mounted(folder: Path, *more: str) -> list[str]:
    return ["--mount", f"type=bind,source={folder},target=/workspace", *more]


@pytest.mark.slow
def test_the_main_job_passes_with_everything_taken_away(image: Image):
    said = image.succeeds("verify", options=(*BARE, "--shm-size", "2g"))
    assert "checks passed" in said.splitlines()[-1]


def test_the_five_steps_pass_with_the_entrypoint_skipped(image: Image):
    options = (*BARE, "--entrypoint", "/opt/venv/bin/python", "--workdir", "/opt/racdino")
    assert "all 5 checks passed" in image.succeeds("-m", "racdino.verify.steps", options=options)


def test_a_program_starts_with_the_entrypoint_skipped_and_no_home(image: Image):
    options = (*BARE, "--entrypoint", "/opt/venv/bin/python", "--env", "HOME=/nonexistent")
    code = (
        "import getpass, os, pathlib, matplotlib, numba, torch\n"
        "numba.njit(cache=True)\n"
        "matplotlib.get_cachedir()\n"
        "home = pathlib.Path.home(); (home / 'x').write_text('x')\n"
        "print(getpass.getuser(), oct(home.stat().st_mode & 0o777), home.stat().st_uid)"
    )
    user, mode, owner = image.succeeds("-c", code, options=options).split()
    assert user
    assert (mode, owner) == ("0o700", str(STRANGER))


@needs_root
def test_what_is_written_on_a_mount_belongs_to_the_caller(image: Image, folder: Path):
    os.chown(folder, STRANGER, STRANGER)
    (folder / "train.py").write_text("open('result', 'w')\n")
    image.succeeds("python", "train.py", options=mounted(folder, *BARE))
    written = (folder / "result").stat()
    assert (written.st_uid, written.st_gid) == (STRANGER, STRANGER)


@needs_root
def test_a_mount_that_cannot_be_written_is_named_with_the_way_out(image: Image, folder: Path):
    (folder / "train.py").write_text("print('trained')\n")
    folder.chmod(0o755)
    answer = image.run("python", "train.py", options=mounted(folder, "--user", f"{STRANGER}:{STRANGER}"))
    (warning,) = (line for line in answer.stderr.splitlines() if "/workspace" in line)
    assert "--user" in warning
    assert answer.stdout.strip() == "trained"


def test_arguments_arrive_as_they_are(image: Image):
    arguments = ["two words", "*", "$HOME", "a'b\"c", "line\nbreak", ""]
    said = image.succeeds("python", "-c", "import sys; print(sys.argv[1:])", *arguments)
    assert said.strip() == str(arguments)


def test_the_exit_status_is_the_programs(image: Image):
    assert image.run("python", "-c", "raise SystemExit(37)").returncode == 37
    assert image.run("no-such-program").returncode == 127


def test_process_1_is_tini(image: Image):
    assert image.succeeds("cat", "/proc/1/comm").strip() == "tini"


def test_a_stop_reaches_every_worker(image: Image, folder: Path):
    folder.chmod(0o777)
    worker = (
        "import os, pathlib, signal, sys, time\n"
        "rank = os.environ['RANK']\n"
        "def stop(number, frame):\n"
        "    time.sleep(1)  # as long as a checkpoint takes\n"
        "    pathlib.Path(f'/workspace/stopped-{rank}').touch(); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "pathlib.Path(f'/workspace/ready-{rank}').touch()\n"
        "time.sleep(300)\n"
    )
    (folder / "worker.py").write_text(worker)
    name = f"racdino-test-stop-{os.getpid()}"
    command = [str(image.engine.path), "run", "--rm", "--name", name, *mounted(folder), image.name]
    launch = ["torchrun", "--standalone", "--nproc_per_node", "3", "worker.py"]
    with subprocess.Popen([*command, *launch], stderr=subprocess.DEVNULL) as running:
        try:
            until(lambda: len(list(folder.glob("ready-*"))) == 3)
            subprocess.run([str(image.engine.path), "kill", "--signal", "TERM", name], check=True, capture_output=True)
            running.wait(timeout=30)
        finally:
            if running.poll() is None:
                subprocess.run([str(image.engine.path), "rm", "--force", name], check=False, capture_output=True)
                running.send_signal(signal.SIGKILL)
    assert sorted(path.name for path in folder.glob("stopped-*")) == ["stopped-0", "stopped-1", "stopped-2"]


@pytest.mark.parametrize(("size", "warned"), [("64m", True), ("4g", False)])
def test_a_small_shared_memory_is_named_before_a_dataloader_dies_of_it(image: Image, size: str, warned: bool):
    answer = image.run("python", "-c", "pass", options=("--shm-size", size))
    assert ("--shm-size" in answer.stderr) == warned


def test_a_missing_gpu_is_named_in_one_line(image: Image, folder: Path):
    """By the image for GPUs alone: the one under test may be the CPU's, so it is told that it is not."""
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("this machine has an NVIDIA GPU")
    facts = json.loads(image.succeeds("cat", "/opt/venv/racdino/image.json"))
    (folder / "image.json").write_text(json.dumps({**facts, "variant": "cu118"}))
    for_gpus = f"type=bind,source={folder / 'image.json'},target=/opt/venv/racdino/image.json,readonly"
    answer = image.run("python", "-c", "pass", options=("--shm-size", "4g", "--mount", for_gpus))
    (line,) = answer.stderr.splitlines()
    assert "GPU" in line
    assert "--gpus all" in line


def until(true: object, seconds: float = 60) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
