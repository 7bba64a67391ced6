"""The layer's refinement, and what the decoder computes once instead of in every layer."""

from __future__ import annotations

import math

import pytest
import torch
from small_head import find, make_head, make_inputs

from racdino.detector.decoder.decoder_layer import age_of_previous
from racdino.detector.decoder.transformer import ages


def layer_of(head):
    return head.transformer.decoder["decoder_layer"]


def test_a_box_is_refined_as_the_specification_says():
    layer = layer_of(make_head())
    box = torch.tensor([[[0.3, 0.5, 0.25, 9, 9, 9, 9, 9, 9, 9.0]]], dtype=torch.float64)
    change = torch.tensor([[[0.4, 1.0, -2.0, 1, 2, 3, 4, 5, 6, -7.0]]], dtype=torch.float64)
    refined = layer.refine(box, change, age_of_previous(torch.tensor([[0.0, 0.5]], dtype=torch.float64)))[0, 0].tolist()
    sigmoid = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    assert refined[0] == pytest.approx(0.3 + (2 * sigmoid(0.4) - 1) / 8)  # 8 rays
    assert refined[1:3] == pytest.approx([sigmoid(1.0), sigmoid(math.log(1 / 3) - 2)])
    assert refined[3:] == pytest.approx([1, 2, 3, 4, 5, 12, -14])


def test_a_frame_that_repeats_the_current_one_or_none_leaves_the_velocity_undivided():
    layer = layer_of(make_head())
    box, change = torch.full((1, 1, 10), 0.5), torch.full((1, 1, 10), 3.0)
    for time_diff in (torch.zeros(1, 2), torch.zeros(1, 1)):
        assert layer.refine(box, change, age_of_previous(time_diff))[0, 0, 8:].tolist() == [3, 3]


def test_ages_are_means_over_the_cameras_in_float64():
    now = 1_533_201_470.0
    times = torch.tensor([[now, now + 0.01, now - 0.5, now - 0.47]], dtype=torch.float64)
    assert ages(times, 2)[0].tolist() == pytest.approx([0.0, 0.49], abs=1e-6)


def test_the_temporal_encoder_and_the_values_are_computed_once_per_forward():
    head, calls = make_head().eval(), []
    layer = layer_of(head)
    for module in (
        layer.sampling_radar_bev.temporal_encoder,
        layer.sampling_radar_bev.attention.value_proj,
        layer.sampling_lss_bev.attention.value_proj,
    ):
        module.register_forward_hook(lambda module, inputs, output: calls.append(module))
    find(head, make_inputs())
    assert len(calls) == 3


def test_a_later_layer_sends_no_gradient_into_the_boxes_of_an_earlier_one():
    head, inputs = make_head().train(), make_inputs()
    output = find(head, inputs)
    refined = torch.autograd.grad(output.codes[1].sum(), head.init_query_bbox.weight, retain_graph=True)[0]
    # The second layer's theta adds to the first one's, which reaches it without gradient; yaw, sizes and velocity
    # start anew. What is left is the way through the queries.
    direct = torch.autograd.grad(output.codes[0][..., :2].sum(), head.init_query_bbox.weight)[0]
    assert direct[:, 0].abs().min() > 1  # metres per turn, through the refinement itself
    assert refined[:, 0].abs().max() < direct[:, 0].abs().max()


def test_the_parameters_have_the_published_names():
    names = set(make_head().state_dict())
    prefix = "transformer.decoder.decoder_layer."
    for name in (
        "self_attn.attention.attn.in_proj_weight",
        "self_attn.attention.attn.out_proj.bias",
        "sampling_radar_bev.temporal_encoder.convGRU.convGRUCell.gates_conv.weight",
        "sampling_radar_bev.temporal_encoder.upsample.1.weight",
        "sampling_lss_bev.attention.bev_queue_weight.weight",
        "ffn.layers.0.0.weight",
        "ffn.layers.1.bias",
        "cls_branch.6.bias",
        "reg_branch.4.bias",
    ):
        assert prefix + name in names
    assert {"code_weights", "init_query_bbox.weight", "label_enc.weight"} <= names
    assert not any(name.startswith(prefix + "sampling_lss_bev.temporal") for name in names)
