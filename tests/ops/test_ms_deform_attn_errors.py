"""A wrong argument is answered by one sentence: which one, what it is, what it should be."""

from __future__ import annotations

import pytest
import torch

from racdino.ops import ms_deform_attn

WRONG = {
    "value of three dimensions": (
        {"value": torch.zeros(2, 42, 24)},
        "value has shape [2, 42, 24], expected (B, S, M, D).",
    ),
    "value of integers": (
        {"value": torch.zeros(2, 42, 3, 8, dtype=torch.int32)},
        "value has dtype Int, expected Double, Float, Half or BFloat16.",
    ),
    "shapes of three columns": (
        {"spatial_shapes": torch.ones(2, 3, dtype=torch.int64)},
        "spatial_shapes has shape [2, 3], expected (L, 2).",
    ),
    "shapes of int32": (
        {"spatial_shapes": torch.tensor([[6, 5], [3, 4]], dtype=torch.int32)},
        "spatial_shapes has dtype Int, expected Long.",
    ),
    "starts for another number of levels": (
        {"level_start_index": torch.tensor([0])},
        "level_start_index has shape [1], expected (L=2).",
    ),
    "locations of another batch": (
        {"sampling_locations": torch.zeros(1, 5, 3, 2, 3, 2)},
        "sampling_locations has shape [1, 5, 3, 2, 3, 2], expected (B=2, Q, M=3, L=2, P, 2).",
    ),
    "locations in float64 beside float32 values": (
        {"sampling_locations": torch.zeros(2, 5, 3, 2, 3, 2, dtype=torch.float64)},
        "sampling_locations has dtype Double, expected Float like value.",
    ),
    "weights of another number of points": (
        {"attention_weights": torch.zeros(2, 5, 3, 2, 4)},
        "attention_weights has shape [2, 5, 3, 2, 4], expected (B=2, Q=5, M=3, L=2, P=3).",
    ),
    "weights in bfloat16 beside float32 values": (
        {"attention_weights": torch.zeros(2, 5, 3, 2, 3, dtype=torch.bfloat16)},
        "attention_weights has dtype BFloat16, expected Float like value.",
    ),
    "a level that reaches beyond value": (
        {"spatial_shapes": torch.tensor([[6, 5], [3, 5]])},
        "level 1 of spatial_shapes is 3 x 5 and starts at 30 in level_start_index, "
        "expected a level inside the 42 pixels of value.",
    ),
    "a level of no pixels": (
        {"spatial_shapes": torch.tensor([[6, 5], [0, 4]])},
        "level 1 of spatial_shapes is 0 x 4 and starts at 30",
    ),
    "a level before the first pixel": (
        {"level_start_index": torch.tensor([0, -1])},
        "level 1 of spatial_shapes is 3 x 4 and starts at -1",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_sentence_names_the_argument(make_inputs, name):
    change, sentence = WRONG[name]
    inputs = make_inputs(dtype=torch.float32)._replace(**change)
    with pytest.raises(RuntimeError) as caught:
        ms_deform_attn(*inputs)
    assert str(caught.value).splitlines()[0].startswith("ms_deform_attn: " + sentence)


@pytest.mark.parametrize("step", [0, -1])
def test_im2col_step_must_be_positive(make_inputs, step):
    with pytest.raises(RuntimeError, match=f"im2col_step is {step}, expected a positive number"):
        ms_deform_attn(*make_inputs(), step)


@pytest.mark.parametrize(
    ("grad_output", "sentence"),
    [
        (torch.zeros(2, 4, 24), r"grad_output has shape \[2, 4, 24\], expected \(B=2, Q=5, M\*D=24\)"),
        (torch.zeros(2, 5, 24).double(), "grad_output has dtype Double, expected Float like value"),
    ],
)
def test_the_gradient_handed_to_backward_is_checked(make_inputs, grad_output, sentence):
    with pytest.raises(RuntimeError, match=sentence):
        torch.ops.racdino.ms_deform_attn_backward(*make_inputs(dtype=torch.float32), grad_output, 64, [True] * 3)


@pytest.mark.cuda
def test_tensors_on_two_devices_are_refused(make_inputs):
    inputs = make_inputs("cuda", torch.float32)
    with pytest.raises(RuntimeError, match="spatial_shapes is on cpu, expected cuda:0 like value"):
        ms_deform_attn(*inputs._replace(spatial_shapes=inputs.spatial_shapes.cpu()))
