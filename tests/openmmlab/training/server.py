"""Imports mmdet3d once and forks a process per run, so that a run starts in milliseconds; see conftest.py.

Reads one JSON object a line: arguments of ``main``, environment, where stdout and stderr go; answers with the process's
number at once. A second kind of request waits for a process and answers with its status.
"""

from __future__ import annotations

import json
import os
import runpy
import sys

import mmdet3d.datasets
import mmdet3d.models  # noqa: F401  (these two take most of a minute)

from racdino.training import processes


def child(request: dict) -> None:
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if limit := request.get("largest_file"):
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if script := request.get("script"):
        processes.leave(lambda: runpy.run_path(script, run_name="__main__") and 0)
    import stand_ins  # noqa: F401  (beside this file: registers its classes)

    from racdino.openmmlab.training.main import main

    processes.leave(lambda: main(request["arguments"]))


for line in sys.stdin:
    request = json.loads(line)
    if "wait" in request:
        status = os.waitpid(request["wait"], 0)[1]
        answer = os.waitstatus_to_exitcode(status)
    else:
        answer = os.fork()
        if answer == 0:
            child(request)
    print(answer, flush=True)
