"""Run a long command and show that it lives: elapsed and expected time, and ninja's [k/n] where it prints one."""

from __future__ import annotations

import ctypes
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from scripts.setup.errors import SetupError, explain

_STEP = re.compile(r"^\s*(?:DEBUG )?\[(\d+)/(\d+)\] ")
_TAIL = 15
_PLAIN_INTERVAL = 60.0
_PR_SET_PDEATHSIG = 1
_RENEW = "\r\x1b[K"


class Progress:
    """What is shown of one step: a line that renews itself on a terminal, a line a minute elsewhere."""

    def __init__(self, label: str, expected: float, stream: TextIO | None = None) -> None:
        self.label, self.expected, self.stream = label, expected, stream or sys.stdout
        self.started = time.monotonic()
        self.done = self.total = self.done_at_start = 0
        self._live = self.stream.isatty()
        self._next = self.started + (0.0 if self._live else _PLAIN_INTERVAL)
        if not self._live and expected >= _PLAIN_INTERVAL / 2:
            print(f"{label} (about {clock(expected)}) ...", file=self.stream, flush=True)

    def line(self, text: str) -> None:
        """Take one line of the command's output."""
        if match := _STEP.match(text):
            self.done, self.total = int(match[1]), int(match[2])

    def tick(self) -> None:
        """Show the state if it is time to."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (0.2 if self._live else _PLAIN_INTERVAL)
        text = f"{self.label}: {self.state(now - self.started)}"
        before, after = (_RENEW, "") if self._live else ("  ", "\n")
        print(f"{before}{text}", end=after, file=self.stream, flush=True)

    def state(self, elapsed: float) -> str:
        """Elapsed and expected time in words."""
        expected = self.expected
        steps = ""
        if self.total:
            steps = f"{self.done} of {self.total}, "
            if self.done > 2:
                expected = elapsed * self.total / self.done
        if elapsed > expected:
            return f"{steps}{clock(elapsed)} elapsed, longer than the usual {clock(expected)}"
        return f"{steps}{clock(elapsed)} elapsed of about {clock(expected)}"

    def finish(self, outcome: str = "done") -> None:
        """The last line of the step."""
        elapsed = clock(time.monotonic() - self.started)
        before = _RENEW if self._live else ""
        print(f"{before}{self.label}: {outcome} in {elapsed}", file=self.stream, flush=True)


def clock(seconds: float) -> str:
    """61.5 -> ``1:01``; below a minute ``7 s``."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def run(
    command: Sequence[str | Path],
    label: str,
    expected: float,
    log: Path,
    environment: Mapping[str, str],
    keep_open: Sequence[int] = (),
) -> None:
    """Run ``command`` to its end, its output in ``log``.

    Args:
        expected: usual duration in seconds.
        keep_open: file descriptors that the command inherits: locks, which a command left behind by a killed setup
            then still holds.
    Raises:
        SetupError: the command failed; the message is one sentence, its last lines are printed before it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    progress = Progress(label, expected)
    tail: deque[str] = deque(maxlen=200)
    with log.open("w", encoding="utf-8", buffering=1) as sink:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
            preexec_fn=_end_with_parent,
            pass_fds=tuple(keep_open),
        )
        try:
            for text in _lines(process, progress):
                sink.write(text + "\n")
                tail.append(text)
                progress.line(text)
            code = process.wait()
        except BaseException:
            progress.finish("stopped")
            _stop(process)
            raise
    if code:
        progress.finish("failed")
        output = "\n".join(tail)
        print("\n".join(list(tail)[-_TAIL:]), file=sys.stderr)
        raise SetupError(explain(output) or f"{label} failed; its last lines are above, all of them are in {log}.")
    progress.finish()


def _lines(process: subprocess.Popen[bytes], progress: Progress) -> Iterator[str]:
    """The command's output line by line, with the progress kept moving while it is silent."""
    assert process.stdout is not None
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            progress.tick()
            if not selector.select(timeout=0.2):
                continue
            block = os.read(process.stdout.fileno(), 1 << 16)
            if not block:
                break
            *whole, pending = (pending + block).split(b"\n")
            yield from (line.decode(errors="replace").rstrip("\r") for line in whole)
    if pending:
        yield pending.decode(errors="replace")


def _end_with_parent() -> None:
    """In the child: have the kernel interrupt it when setup is killed in a way that setup cannot catch."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Interrupt the command and everything that it started; ninja then removes what is half-written."""
    for number, patience in ((signal.SIGINT, 10), (signal.SIGKILL, 5)):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=patience)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
