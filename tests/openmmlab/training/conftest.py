"""``trainer``: runs of ``racdino train`` on the stand-ins, in processes of their own that start in milliseconds."""

from __future__ import annotations

import copy
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from racdino.weights.checkpoint import read_checkpoint

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
CONFIG = """
model = dict(type="StandInDetector")
data = dict(workers_per_gpu=0, train=dict(type="StandInDataset", samples=24))
batch_size = 4
total_epochs = 3
optimizer = dict(
    type="AdamW", lr=1e-2, weight_decay=0.01,
    paramwise_cfg=dict(custom_keys=dict(img_backbone=dict(lr_mult=0.1), sampling_offset=dict(lr_mult=0.1))),
)
optimizer_config = dict(type="OptimizerHook", grad_clip=dict(max_norm=35, norm_type=2))
lr_config = dict(policy="CosineAnnealing", warmup="linear", warmup_iters=5, warmup_ratio=1.0 / 3, min_lr_ratio=1e-3)
checkpoint_config = dict(interval=1, max_keep_ckpts=4)
log_config = dict(interval=1, hooks=[dict(type="MyTextLoggerHook", interval=1, reset_flag=True)])
load_from = None
"""


class Run:
    """One process of a run."""

    def __init__(self, trainer: Trainer, number: int, output: Path) -> None:
        self.trainer, self.number, self.output = trainer, number, output

    def wait(self) -> int:
        return self.trainer.ask({"wait": self.number})

    def kill(self, signal: int) -> None:
        os.kill(self.number, signal)

    @property
    def said(self) -> str:
        return self.output.read_text() if self.output.exists() else ""


class Trainer:
    """Starts runs in ``folder`` with ``config.py``."""

    def __init__(self, server: subprocess.Popen, folder: Path) -> None:
        self.server, self.folder, self.runs = server, folder, 0
        self.config = folder / "config.py"
        self.config.write_text(CONFIG)

    def ask(self, request: dict[str, Any]) -> int:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline())

    def start(self, *arguments: str, largest_file: int = 0, **environment: str) -> Run:
        self.runs += 1
        output = self.folder / f"output_{self.runs}.txt"
        request = {"arguments": ["config.py", *arguments], "environment": environment, "folder": str(self.folder)}
        return Run(self, self.ask({**request, "output": str(output), "largest_file": largest_file}), output)

    def run_script(self, name: str) -> None:
        """A program of this folder, in the server's environment."""
        output = self.folder / f"{name}.txt"
        request = {"script": str(HERE / name), "environment": {}, "folder": str(self.folder), "output": str(output)}
        assert Run(self, self.ask(request), output).wait() == 0, output.read_text()

    def run(self, *arguments: str, status: int = 0, **options: Any) -> str:
        run = self.start(*arguments, **options)
        assert run.wait() == status, run.said
        return run.said

    def run_processes(self, count: int, *arguments: str, status: int = 0) -> None:
        common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": unused_port()}
        runs = [self.start(*arguments, RANK=str(r), LOCAL_RANK=str(r), **common) for r in range(count)]
        statuses = [run.wait() for run in runs]
        assert statuses == [status] * count, "".join(run.said for run in runs)

    def final(self, work_dir: str, name: str = "epoch_3.pth") -> dict[str, Any]:
        return copy.deepcopy(read_checkpoint(self.folder / work_dir / name))  # no view of a file that a test changes

    def records(self, work_dir: str, mode: str = "train") -> list[dict[str, Any]]:
        lines = (self.folder / work_dir / "train.log.json").read_text().splitlines()
        return [record for record in map(json.loads, lines) if record["mode"] == mode]


def unused_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.fixture
def free_port():
    return unused_port()


@pytest.fixture(scope="session")
def server():
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": f"{ROOT}:{HERE}"}
    environment.pop("WORLD_SIZE", None)
    environment.pop("RACDINO_OUTPUTS", None)
    process = subprocess.Popen(
        [sys.executable, str(HERE / "server.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    yield process
    process.stdin.close()
    process.wait()


@pytest.fixture
def trainer(server, tmp_path):
    return Trainer(server, tmp_path)
