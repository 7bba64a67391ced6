"""`import MultiScaleDeformableAttention` is what the field's code expects of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.autograd.function import once_differentiable

import MultiScaleDeformableAttention as MSDA  # noqa: N817  (the field's abbreviation)
from racdino.ops import ms_deform_attn

ROOT = Path(__file__).resolve().parents[2]


class FieldFunction(torch.autograd.Function):
    """How Deformable-DETR, ViT-Adapter and Mask2Former call the extension (re-stated, not copied)."""

    @staticmethod
    def forward(ctx, value, shapes, starts, locations, weights, im2col_step):
        ctx.im2col_step = im2col_step
        ctx.save_for_backward(value, shapes, starts, locations, weights)
        return MSDA.ms_deform_attn_forward(value, shapes, starts, locations, weights, ctx.im2col_step)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        value, shapes, starts, locations, weights = ctx.saved_tensors
        grad_value, grad_locations, grad_weights = MSDA.ms_deform_attn_backward(
            value, shapes, starts, locations, weights, grad_output, ctx.im2col_step
        )
        return grad_value, None, None, grad_locations, grad_weights, None


def test_imports_first_thing_in_a_shell(tmp_path):
    program = "import sys, MultiScaleDeformableAttention as m; assert 'torch' in sys.modules; print(m.__all__)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "['ms_deform_attn_backward', 'ms_deform_attn_forward']"


def test_an_existing_autograd_function_passes_gradcheck(device, make_inputs):
    inputs = make_inputs(device, requires_grad=True)
    assert torch.autograd.gradcheck(FieldFunction.apply, (*inputs, 2), nondet_tol=1e-12)


def test_backward_returns_a_list_of_three(device, make_inputs):
    inputs = make_inputs(device)
    gradients = MSDA.ms_deform_attn_backward(*inputs, torch.ones(2, 5, 24, device=device).double(), 64)
    assert isinstance(gradients, list)
    shapes = [inputs.value.shape, inputs.sampling_locations.shape, inputs.attention_weights.shape]
    assert [gradient.shape for gradient in gradients] == shapes


def test_a_batch_the_original_would_refuse(device, make_inputs):
    # The original insists that the batch be a multiple of min(batch, im2col_step).
    inputs = make_inputs(device, batch=5)
    assert torch.equal(MSDA.ms_deform_attn_forward(*inputs, 2), ms_deform_attn(*inputs))


def test_grad_output_may_be_a_view(device, make_inputs):
    inputs = make_inputs(device, requires_grad=True)
    FieldFunction.apply(*inputs, 64).sum().backward()  # the gradient of a sum is one number, expanded
    assert inputs.value.grad is not None


@pytest.mark.parametrize("damage", ["missing", "stale"])
def test_an_unbuilt_operator_says_how_to_build_it(tmp_path, damage):
    package = tmp_path / "racdino"
    for folder in ("ops", "environment"):
        (package / folder).mkdir(parents=True)
        for source in (ROOT / "racdino" / folder).glob("*.py"):
            (package / folder / source.name).write_text(source.read_text())
    (package / "__init__.py").write_text("")
    (package / "csrc").mkdir()
    if damage == "stale":
        for name in ("_C.json", *(path.name for path in (ROOT / "racdino").glob("_C.*.so"))):
            (package / name).write_bytes((ROOT / "racdino" / name).read_bytes())
    result = subprocess.run(
        [sys.executable, "-c", "import racdino.ops"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert f"is {damage}" in last
    assert "run `python setup.py build_ext --inplace` in" in last
