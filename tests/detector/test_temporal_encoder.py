"""The radar BEV's recurrent state runs from the past to the current frame."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from racdino.detector.decoder.temporal_encoder import ConvGRUCell, RadarTemporalEncoder


def make(frames=6, **keywords):
    torch.manual_seed(0)
    return RadarTemporalEncoder(8, **keywords).double(), torch.randn(2, frames, 8, 6, 8, dtype=torch.float64)


def influence(encoder, bev) -> list[set[int]]:
    """For each frame of the output, the frames of the input that change it."""
    base = encoder(bev)
    changed = []
    for frame in range(bev.shape[1]):
        other = bev.clone()
        other[:, frame] += 1
        changed.append((encoder(other) - base).abs().amax((0, 2, 3, 4)) > 1e-12)
    return [{source for source in range(bev.shape[1]) if changed[source][frame]} for frame in range(bev.shape[1])]


def test_each_frame_sees_itself_and_older_ones_of_the_newest_four():
    assert influence(*make()) == [{0, 1, 2, 3}, {1, 2, 3}, {2, 3}, {3}, {4}, {5}]


def test_upstreams_order_leaves_the_current_frame_without_history():
    assert influence(*make(legacy_temporal_order=True)) == [{0}, {0, 1}, {0, 1, 2}, {0, 1, 2, 3}, {4}, {5}]


def test_fewer_frames_than_four_work():
    assert influence(*make(frames=2)) == [{0, 1}, {1}]
    assert influence(*make(frames=1)) == [{0}]


def test_only_the_two_newest_states_are_differentiated():
    encoder, bev = make()
    encoder.temporal_fusion.weight.data[:, :8] = 0  # leaves the way through the state
    bev.requires_grad_()
    encoder(bev).sum().backward()
    assert bev.grad is not None
    assert [bool(bev.grad[:, frame].any()) for frame in range(6)] == [True, True, False, False, False, False]


def test_the_output_is_the_formula_written_out():
    encoder, bev = make(frames=3)
    cell = encoder.convGRU["convGRUCell"]
    state = torch.zeros(2, 2, 3, 4, dtype=torch.float64)
    outputs = {}
    for frame in (2, 1, 0):
        x = F.conv2d(bev[:, frame], encoder.downsample.weight, encoder.downsample.bias, stride=2, padding=1)
        matched = F.conv2d(state, cell.matching_layer.weight, cell.matching_layer.bias)
        gates = F.conv2d(torch.cat([x, matched], 1), cell.gates_conv.weight, cell.gates_conv.bias, padding=1)
        z, r, c = gates[:, :2].sigmoid(), gates[:, 2:4].sigmoid(), gates[:, 4:]
        state = (1 - z) * state + z * torch.tanh(c + r * state)
        large = F.interpolate(state, size=(6, 8), mode="bilinear", align_corners=True)
        large = F.conv2d(large, encoder.upsample[1].weight, encoder.upsample[1].bias, padding=1)
        fusion = encoder.temporal_fusion
        outputs[frame] = F.conv2d(torch.cat([bev[:, frame], large], 1), fusion.weight, fusion.bias, padding=1)
    expected = torch.stack([outputs[frame] for frame in range(3)], dim=1)
    torch.testing.assert_close(encoder(bev), expected)


def test_the_cells_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    cell = ConvGRUCell(2).double()
    leaves = [torch.randn(1, 2, 3, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(cell, leaves)


def test_maps_of_odd_size_are_refused():
    encoder, bev = make()
    with pytest.raises(ValueError, match=r"\(5, 8\) cells; both numbers must be even"):
        encoder(bev[..., :5, :])
