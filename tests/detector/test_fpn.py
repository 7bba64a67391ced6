"""The necks equal mmdet's FPN and a hand-written pyramid."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from racdino.detector.fpn import FPN, CustomFPN

MmdetFPN = pytest.importorskip("mmdet.models", reason="mmdet is not installed").FPN
SIZES = [(16, 22), (8, 11), (4, 6), (2, 3)]  # odd ones too, and such as are no doubles


@pytest.mark.parametrize("num_outs", [4, 5])
def test_fpn_equals_mmdet_with_the_same_weights(num_outs):
    torch.manual_seed(0)
    channels = [8, 16, 24, 32]
    ours = FPN(channels, 12, num_outs)
    theirs = MmdetFPN(channels, 12, num_outs)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    maps = [torch.randn(2, c, *size) for c, size in zip(channels, SIZES, strict=True)]
    for a, b in zip(ours(maps), theirs(maps), strict=True):
        torch.testing.assert_close(a, b)


def test_custom_fpn_is_one_merged_map():
    torch.manual_seed(0)
    neck = CustomFPN([8, 16], 12, num_outs=1, start_level=0, out_ids=[0])
    fine, coarse = torch.randn(2, 8, 4, 6), torch.randn(2, 16, 2, 3)
    up = neck.lateral_convs[1].conv(coarse).repeat_interleave(2, 2).repeat_interleave(2, 3)
    conv = neck.fpn_convs[0].conv
    expected = F.conv2d(neck.lateral_convs[0].conv(fine) + up, conv.weight, conv.bias, padding=1)
    torch.testing.assert_close(neck([fine, coarse]), expected)


def test_maps_stay_channels_last_and_weights_get_gradients_in_their_strides():
    neck = FPN([8, 16], 12, 2)
    maps = [torch.randn(2, 8, 4, 6), torch.randn(2, 16, 2, 3)]
    maps = [x.contiguous(memory_format=torch.channels_last).requires_grad_() for x in maps]
    outputs = neck(maps)
    sum(x.square().sum() for x in outputs).backward()
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in [*outputs, *(x.grad for x in maps)])
    assert all(p.grad.stride() == p.stride() for p in neck.parameters())  # else DDP warns


def test_wrong_numbers_of_maps_are_refused():
    with pytest.raises(ValueError, match="cannot have fewer outputs"):
        FPN([8, 16], 12, 1)
    with pytest.raises(ValueError, match="takes 2 maps and was given 1"):
        FPN([8, 16], 12, 2)([torch.zeros(1, 8, 4, 4)])
    with pytest.raises(ValueError, match="one map"):
        CustomFPN([8, 16], 12, num_outs=2)
