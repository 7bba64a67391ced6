"""The op's check passes for the real op and fails for a wrong one."""

from __future__ import annotations

import pytest
import torch

from racdino.verify import op_check


@pytest.mark.parametrize("dtype", op_check.TOLERANCE, ids=str)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_the_op_passes(device, dtype):
    result = op_check.check_op(torch.device(device), dtype)
    assert result.passed, result


@pytest.mark.parametrize("factor", [1.001, 0.0, float("nan")], ids=["0.1 % off", "zero", "NaN"])
def test_a_wrong_op_is_found(monkeypatch, factor):
    right = op_check.ms_deform_attn
    monkeypatch.setattr(op_check, "ms_deform_attn", lambda *inputs: right(*inputs) * factor)
    assert not op_check.check_op(torch.device("cpu"), torch.float32).passed


def test_the_cpu_is_always_checked():
    assert op_check.devices()[0] == torch.device("cpu")
