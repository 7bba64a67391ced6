"""A build's log becomes a line for each long step and the time of each stage; the file keeps every line."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from scripts.image.progress import Steps, follow

BUILDKIT = """\
#1 [internal] load build definition from Dockerfile
#1 DONE 0.0s
#7 [mmcv 1/1] RUN --mount=type=bind,from=setup,target=/opt/racdino     /mnt/steps/compile wheel mmcv-full /wheels
#8 [base 2/3] COPY --from=seed /python /opt/python
#8 CACHED
#7 0.412 compiling [1/9]
#9 [mmcv-like.1 3/4] WORKDIR /workspace
#9 DONE 1.5s
#7 ...
#7 [mmcv 1/1] RUN --mount=type=bind,from=setup,target=/opt/racdino     /mnt/steps/compile wheel mmcv-full /wheels
#7 402.0 DONE 1.0s
#7 DONE 402.1s
#10 [mmcv 2/2] RUN true
#10 DONE 3.0s
#11 exporting to image
#11 exporting layers 10.2s done
#11 DONE 12.0s
#12 DONE 9.9s
"""


def read(text: str) -> tuple[Steps, list[str]]:
    steps = Steps()
    said = [steps.read(line, float(now)) for now, line in enumerate(text.splitlines())]
    return steps, [line for line in said if line]


def test_the_seconds_of_a_stage_are_those_of_its_steps():
    steps, _ = read(BUILDKIT)
    assert steps.seconds == pytest.approx({"internal": 0.0, "mmcv": 405.1, "mmcv-like.1": 1.5, "export": 12.0})


def test_a_long_step_is_one_line_without_its_mounts():
    _, said = read(BUILDKIT)
    assert said == [
        "  mmcv: RUN /mnt/steps/compile wheel mmcv-full /wheels took 6:42",
        "  mmcv: RUN true took 3 s",
        "  export: to image took 12 s",
    ]


def test_a_cached_step_takes_no_time_and_says_nothing():
    steps, said = read("#8 [base 2/3] COPY a b\n#8 CACHED\n")
    assert (steps.seconds, said) == ({}, [])


def test_a_command_longer_than_a_line_is_cut():
    _, (line,) = read(f"#8 [base 2/3] RUN {'x' * 100}\n#8 DONE 5.0s\n")
    assert line == f"  base: RUN {'x' * 63}... took 5 s"


def test_buildahs_steps_follow_one_another_and_the_last_ends_with_the_log():
    steps, said = read("[1/3] STEP 1/2: FROM x\n\n\n\n\n[1/3] STEP 2/2: RUN a\n[2/3] STEP 1/1: RUN b\n")
    assert said == ["  stage 1: FROM x took 5 s"]
    assert steps.seconds == {"stage 1": 6.0}
    assert steps.close(16.0) == "  stage 2: RUN b took 10 s"
    assert steps.seconds == {"stage 1": 6.0, "stage 2": 10.0}


def run(tmp_path: Path, script: str) -> Path:
    log = tmp_path / "logs" / "build.log"
    follow(["sh", "-c", script], tmp_path, {"PATH": os.defpath, "WHAT": "given"}, log)
    return log


def test_the_log_holds_every_line_of_both_outputs(tmp_path, capsys):
    log = run(tmp_path, 'echo "$WHAT in $PWD"; echo error >&2; printf "\\377 last"')
    assert log.read_text() == f"given in {tmp_path}\nerror\n\ufffd last\n"
    assert capsys.readouterr().out == f"building; every line goes to {log}\n"


def test_at_the_end_the_longest_stages_come_first(tmp_path, capsys):
    (tmp_path / "said").write_text(BUILDKIT)
    run(tmp_path, "cat said")
    assert capsys.readouterr().out.splitlines()[-1] == "time per stage: mmcv 6:45, export 12 s, mmcv-like.1 1 s"


def test_a_build_out_of_the_cache_names_no_times(tmp_path, capsys):
    run(tmp_path, 'echo "#1 [internal] load"; echo "#1 DONE 0.1s"; echo "#8 [base 1/1] COPY a b"; echo "#8 CACHED"')
    assert "time per stage" not in capsys.readouterr().out


def test_a_build_that_fails_shows_its_last_lines_and_names_its_log(tmp_path, capsys):
    with pytest.raises(subprocess.CalledProcessError) as error:
        run(tmp_path, 'for n in $(seq 60); do echo "line $n"; done; exit 3')
    log = tmp_path / "logs" / "build.log"
    assert (error.value.returncode, error.value.output) == (3, str(log))
    assert len(log.read_text().splitlines()) == 60
    shown = capsys.readouterr().out.splitlines()
    assert shown[1:] == [f"line {number}" for number in range(21, 61)]
