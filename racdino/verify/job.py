"""The order of the checks of the main job, and the report at its end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from racdino.verify import backbone_run, fingerprint, installed, op_check, report
from racdino.verify.backbone_run import Forward, Model
from racdino.verify.errors import VerifyError
from racdino.verify.fingerprint import Fingerprint
from racdino.verify.frame import HEIGHT, WIDTH, Frame, as_input
from racdino.verify.steps import STEPS, run_step
from racdino.verify.table import Table


def run(root: Path, output: Path, frame_source: Callable[[], Frame], other: Fingerprint | None) -> int:
    """Run every check, write ``report.json`` and ``report.html`` into ``output``; return the exit status."""
    table = Table()
    for number, step in enumerate(STEPS, start=1):
        table.run(f"step {number}/{len(STEPS)}: {step.title}", partial(run_step, step, root))
    table.run("installed: versions", installed.check_versions)
    table.run("installed: files", installed.check_files)
    table.run("installed: extension", installed.check_extension)
    for device in op_check.devices():
        for dtype in op_check.TOLERANCE:
            name = str(dtype).removeprefix("torch.")
            table.run(f"op: {device} {name}", partial(_check_op, device, dtype))
    backbone = _Backbone(frame_source)
    table.run("frame", backbone.read)
    table.run("backbone: build", backbone.build)
    table.run("backbone: forward", backbone.forward)
    table.run("backbone: backward", backbone.backward)
    mark = _Fingerprints(other)
    for device in op_check.devices():
        table.run(f"fingerprint: {device}", partial(mark.compute, device))
    content = report.collect(table, backbone.frame, backbone.model, backbone.result, backbone.seconds, mark.first)
    table.run("report", partial(report.write, output, content, backbone.frame, backbone.result))
    print(table.summary())
    return 1 if table.failed else 0


def _check_op(device: torch.device, dtype: torch.dtype) -> str:
    result = op_check.check_op(device, dtype)
    if not result.passed:
        raise VerifyError(str(result))
    return str(result)


class _Backbone:
    """The rows that look at the frame; each needs the one before it."""

    def __init__(self, frame_source: Callable[[], Frame]) -> None:
        self._source = frame_source
        self.frame: Frame | None = None
        self.model: Model | None = None
        self.result: Forward | None = None
        self.seconds: dict[str, float] = {}

    def read(self) -> str:
        self.frame = self._source()
        self._images = as_input(self.frame)
        kind = "synthetic, " if self.frame.synthetic else ""
        return f"{kind}{self.frame.name}: {len(self.frame.images)} cameras at {WIDTH}x{HEIGHT}"

    def build(self) -> str:
        self.model = backbone_run.build()
        return f"ViT-B/14 + adapter on {self.model.device}; {self.model.weights}"

    def forward(self) -> str:
        model, _ = self._ready()
        self.result = backbone_run.forward(model, self._images)
        self.seconds["forward"] = self.result.seconds
        sizes = ", ".join(
            f"{n} {f.shape[2]}x{f.shape[3]}" for n, f in zip(backbone_run.NAMES, self.result.features, strict=True)
        )
        return f"{self.result.seconds:.2f} s for six images{self._random()}: {sizes}"

    def backward(self) -> str:
        model, _ = self._ready()
        seconds, count = backbone_run.backward(model, self._images)
        self.seconds["forward and backward"] = seconds
        peak = backbone_run.peak_memory(model.device) / 2**30
        return f"{seconds:.2f} s, {count} parameters with finite gradients, peak {peak:.1f} GiB"

    def _ready(self) -> tuple[Model, Frame]:
        if self.model is None or self.frame is None:
            raise VerifyError("not run, because the frame or the model above failed.")
        return self.model, self.frame

    def _random(self) -> str:
        return " (random weights)" if self.model and self.model.random else ""


class _Fingerprints:
    """One per device, all within tolerance of the first and of another machine's."""

    def __init__(self, other: Fingerprint | None) -> None:
        self._other = other
        self.first: Fingerprint | None = None

    def compute(self, device: torch.device) -> str:
        found = fingerprint.compute(device)
        self.first = self.first or found
        text = f"loss {found.loss:.7g}, gradient norm {found.gradient_norm:.7g}"
        for name, reference in (("the CPU's", self.first), ("the other machine's", self._other)):
            if reference is None or reference is found:
                continue
            deviation = found.deviation(reference)
            if not deviation <= reference.tolerance:
                raise VerifyError(f"{text} differ from {name} by {deviation:.1e}, more than {reference.tolerance:.0e}.")
            text += f", within {deviation:.1e} of {name}"
        return text
