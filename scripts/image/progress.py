"""Follow a build: one line for each step as it ends, the whole log in a file, and at the end the time of each stage."""

from __future__ import annotations

import re
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.setup.progress import clock

# BuildKit's plain progress: `#12 [mmcv 1/1] RUN ...`, then `#12 DONE 402.1s` or `#12 CACHED`.
_NAMED = re.compile(r"#(?P<number>\d+) \[(?P<stage>[\w.-]+)(?: (?P<step>\d+/\d+))?\] (?P<text>.*)")
_ENDED = re.compile(r"#(?P<number>\d+) (?:(?P<cached>CACHED)|DONE (?P<seconds>[\d.]+)s)$")
_EXPORT = re.compile(r"#(?P<number>\d+) exporting to (?P<what>\w+)$")
# buildah: `[5/21] STEP 2/4: RUN ...`, one after the other.
_BUILDAH = re.compile(r"\[(?P<stage>\d+)/\d+\] STEP \d+/\d+: (?P<text>.*)")
_SHOWN = 3.0  # seconds from which a step is worth a line of its own
_TAIL = 40


class Steps:
    """What the log has told so far: seconds by stage, and the line to show for a step that ended."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._names: dict[str, tuple[str, str]] = {}
        self._buildah: tuple[str, str, float] | None = None

    def read(self, line: str, now: float) -> str | None:
        """Take one line of the log; return what to print of it."""
        if named := (_NAMED.match(line) or _EXPORT.match(line)):
            what = named.groupdict()
            text = " ".join(what["text"].split()) if "text" in what else f"to {what['what']}"
            self._names.setdefault(named["number"], (what.get("stage", "export"), text))
        elif ended := _ENDED.match(line):
            stage, text = self._names.get(ended["number"], ("", ""))
            if stage and ended["seconds"]:
                return self._ended(stage, text, float(ended["seconds"]))
        elif step := _BUILDAH.match(line):
            said = self.close(now)
            self._buildah = (f"stage {step['stage']}", step["text"], now)
            return said
        return None

    def close(self, now: float) -> str | None:
        """End buildah's current step, which only the next one or the end of the log ends."""
        if self._buildah is None:
            return None
        stage, text, since = self._buildah
        return self._ended(stage, text, now - since)

    def _ended(self, stage: str, text: str, seconds: float) -> str | None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        if seconds < _SHOWN:
            return None
        return f"  {stage}: {_brief(text)} took {clock(seconds)}"


def follow(command: Sequence[str], root: Path, environment: Mapping[str, str], log: Path) -> None:
    """Run a build to its end.

    Raises:
        CalledProcessError: it failed; its last lines were printed and ``output`` is the path of the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    steps, tail = Steps(), deque[str](maxlen=_TAIL)
    print(f"building; every line goes to {log}", flush=True)
    with log.open("w", encoding="utf-8", buffering=1) as sink:
        process = subprocess.Popen(
            command,
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout is not None
        for raw in process.stdout:
            line = raw.decode(errors="replace").rstrip()
            sink.write(line + "\n")
            tail.append(line)
            if said := steps.read(line, time.monotonic()):
                print(said, flush=True)
        code = process.wait()
    if said := steps.close(time.monotonic()):
        print(said, flush=True)
    if code:
        print("\n".join(tail))
        raise subprocess.CalledProcessError(code, list(command), output=str(log))
    longest = sorted(steps.seconds.items(), key=lambda item: -item[1])
    if told := ", ".join(f"{stage} {clock(seconds)}" for stage, seconds in longest if seconds >= 1):
        print(f"time per stage: {told}")


def _brief(text: str) -> str:
    """The command at the end of a RUN with many mounts."""
    command = re.sub(r"--mount=\S+ *|\\ *", "", text)
    return command if len(command) <= 70 else f"{command[:67]}..."
