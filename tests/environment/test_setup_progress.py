"""A long step shows that it lives, keeps its log, and takes what it started with it when it ends."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.setup.errors import SetupError
from scripts.setup.mutex import exclusive
from scripts.setup.progress import Progress, clock, run

ROOT = Path(__file__).resolve().parents[2]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_times_are_written_as_people_do():
    assert [clock(value) for value in (7.9, 61, 3725)] == ["7 s", "1:01", "1:02:05"]


def test_ninjas_count_corrects_the_expectation():
    progress = Progress("compiling", 600, io.StringIO())
    assert progress.state(30) == "30 s elapsed of about 10:00"
    progress.line("  [10/40] c++ -MMD")
    assert progress.state(30) == "10 of 40, 30 s elapsed of about 2:00"
    progress.line("DEBUG [20/40] c++ -MMD")
    assert progress.state(30) == "20 of 40, 30 s elapsed of about 1:00"
    assert progress.state(0.0) == "20 of 40, 0 s elapsed of about 0 s"


def test_off_a_terminal_a_short_step_is_one_line():
    stream = io.StringIO()
    progress = Progress("installing", 5, stream)
    progress.tick()
    progress.finish()
    assert stream.getvalue() == "installing: done in 0 s\n"


def test_output_goes_to_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run([sys.executable, "-c", "print('one'); print('two')"], "step", 1, tmp_path / "logs" / "x.log", os.environ)
    assert (tmp_path / "logs" / "x.log").read_text() == "one\ntwo\n"
    assert capsys.readouterr().out == "step: done in 0 s\n"


def test_a_failure_is_one_sentence_after_the_commands_last_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SetupError, match=r"^step failed; its last lines are above, all of them are in .*x\.log\.$"):
        run([sys.executable, "-c", "print('why'); raise SystemExit(3)"], "step", 1, tmp_path / "x.log", os.environ)
    assert capsys.readouterr().err == "why\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_killed_setup_takes_its_command_with_it(tmp_path: Path, number: signal.Signals):
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from scripts.setup.main import _terminate
from scripts.setup.progress import run
signal.signal(signal.SIGTERM, _terminate)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs, such as these tests, ignore it
run([sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"],
    "step", 1, Path({str(tmp_path / "x.log")!r}), os.environ)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as setup:
        log = tmp_path / "x.log"
        assert wait_until(lambda: log.is_file() and log.read_text().endswith("\n"))
        child = int(log.read_text())
        setup.send_signal(number)
        setup.wait(timeout=30)
        assert setup.returncode != 0
    assert wait_until(lambda: not alive(child))


def test_two_setups_take_turns_and_a_left_behind_command_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with exclusive(tmp_path, "first") as descriptor:
        left_behind = subprocess.Popen(["sleep", "0.5"], pass_fds=(descriptor,))
    assert left_behind.poll() is None
    with exclusive(tmp_path, "another setup holds this checkout"):
        assert left_behind.wait(timeout=5) == 0
    assert capsys.readouterr().out == "Waiting: another setup holds this checkout.\n"
    assert not list(tmp_path.iterdir())
