"""The CPU kernels run in torch's own OpenMP pool: one library, and torch.set_num_threads is obeyed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def output_of(program: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_one_openmp_library_is_loaded():
    maps = output_of("import racdino.ops; print(open('/proc/self/maps').read())")
    libraries = set(re.findall(r"\S*/lib(?:gomp|iomp5|omp)\S*\.so\S*", maps))
    assert len(libraries) == 1, libraries


NEW_THREADS = """
import os, torch
from racdino.ops import ms_deform_attn
torch.set_num_threads(1)
shapes = torch.tensor([[40, 40]])
value, locations, weights = torch.rand(1, 1600, 8, 32), torch.rand(1, 4000, 8, 1, 4, 2), torch.rand(1, 4000, 8, 1, 4)
torch.set_num_threads({threads})
before = len(os.listdir('/proc/self/task'))
ms_deform_attn(value, shapes, shapes.new_zeros(1), locations, weights)
print(len(os.listdir('/proc/self/task')) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("threads", [1, 3])
def test_set_num_threads_is_obeyed(threads):
    assert int(output_of(NEW_THREADS.format(threads=threads))) == threads - 1


ISA = """
import torch
from racdino.ops import ms_deform_attn, ms_deform_attn_reference
torch.manual_seed(0)
shapes, starts = torch.tensor([[6, 5], [3, 4]]), torch.tensor([0, 30])
worst = 0.0
for dtype, bound in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
    for channels in (1, 3, 4, 7, 8, 24, 32, 71):
        leaves = [torch.randn(2, 42, 3, channels), torch.rand(2, 9, 3, 2, 5, 2) * 1.4 - 0.2, torch.rand(2, 9, 3, 2, 5)]
        results = []
        for kind, function in ((dtype, ms_deform_attn), (torch.float64, ms_deform_attn_reference)):
            value, locations, weights = [leaf.to(kind).requires_grad_() for leaf in leaves]
            output = function(value, shapes, starts, locations, weights)
            results.append((output, *torch.autograd.grad(output.cos().sum(), (value, locations, weights))))
        for actual, expected in zip(*results):
            worst = max(worst, float((actual - expected).norm() / expected.norm()) / bound)
print(worst)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("capability", "flag"), [("default", ""), ("avx2", "avx2"), ("avx512", "avx512bw")])
def test_every_instruction_set_agrees_with_the_reference(capability, flag):
    # torch's own switch. Ours falls to the next lower set that the processor has; torch 2.0 believes it and dies.
    if flag not in Path("/proc/cpuinfo").read_text():
        pytest.skip(f"this processor has no {flag}, and torch does not check before it uses it")
    assert float(output_of(ISA, ATEN_CPU_CAPABILITY=capability)) < 1
