"""BEV sampling against loops in float64 and mmcv's plain-torch deformable attention; batches do not mix."""

from __future__ import annotations

import pytest
import torch
from sampling_loops import bilinear, ray_point

from racdino.detector.decoder.bev_sampling import BEVSampling
from racdino.detector.decoder.coordinates import Coordinates
from racdino.detector.decoder.keyed_dropout import KeyedDropout
from racdino.detector.decoder.ray_points import Boxes

COORDINATES = Coordinates.of([-51.2, -51.2, -5.0, 51.2, 51.2, 3.0])
SILENT = KeyedDropout(None, torch.arange(3), 2)
REGION = 0.05


def make(**keywords):
    """Batch 2, 3 queries, 2 frames, 8 channels in 2 groups, 6 x 10 cells."""
    torch.manual_seed(1)
    branch = BEVSampling(8, 3, 2, 2, 2, (6, 10), COORDINATES, **keywords).double()
    for parameter in branch.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    bev = torch.randn(2, 2, 8, 6, 10, dtype=torch.float64)
    box = torch.rand(2, 3, 10, dtype=torch.float64)
    box[..., 6:] = torch.randn(2, 3, 4, dtype=torch.float64)
    query = torch.randn(2, 3, 8, dtype=torch.float64)
    time_diff = torch.tensor([[0.0, 0.5], [0.0, 0.4]], dtype=torch.float64)
    return branch, bev, box, query, time_diff


def run(branch, bev, box, query, time_diff):
    return branch(Boxes(box, time_diff), query, branch.numbers(query), branch.values(bev), REGION, SILENT, "a", 0)


def grid_of(branch, box, query, time_diff):
    """(B, T, Q, G, K, 2) in [0, 1] of the range."""
    xy, _ = branch.points(Boxes(box, time_diff), branch.numbers(query), REGION, groups_last=False)
    return (xy.flatten(4, 5) + 51.2) / 102.4


def test_it_is_what_loops_over_frames_heads_and_points_give():
    branch, bev, box, query, time_diff = make()
    found = run(branch, bev, box, query, time_diff)
    attention, position = branch.attention, branch.positional_encoding
    for b in range(2):
        values = []
        for t in range(2):
            learned = torch.stack(
                [
                    torch.cat([position.col_embed.weight[column], position.row_embed.weight[row]])
                    for row in range(6)
                    for column in range(10)
                ]
            )
            cells = bev[b, t].flatten(1).T + learned
            values.append((cells @ attention.value_proj.weight.T + attention.value_proj.bias).T.view(8, 6, 10))
        for q in range(3):
            weights = (branch.scale_weights.weight @ query[b, q] + branch.scale_weights.bias).view(2, 6).softmax(-1)
            frames = (attention.bev_queue_weight.weight @ query[b, q] + attention.bev_queue_weight.bias).softmax(0)
            fused = torch.zeros(8, dtype=torch.float64)
            for t, g, d, p in [(t, g, d, p) for t in range(2) for g in range(2) for d in range(3) for p in range(2)]:
                age = float(time_diff[b, t])
                x, y, _ = ray_point(branch, box[b, q].tolist(), query[b, q], age, REGION, d, g, p)
                # Cell i covers i to i + 1 tenths of the range's width.
                pixel = (x + 51.2) / 102.4 * 10 - 0.5, (y + 51.2) / 102.4 * 6 - 0.5
                part = slice(4 * g, 4 * g + 4)
                fused[part] += frames[t] * weights[g, d * 2 + p] * bilinear(values[t][part], *pixel)
            expected = query[b, q] + attention.output_proj.weight @ fused + attention.output_proj.bias
            torch.testing.assert_close(found[b, q], expected, rtol=1e-7, atol=1e-8)


def test_it_is_mmcvs_plain_torch_attention_frame_by_frame():
    ops = pytest.importorskip("mmcv.ops.multi_scale_deform_attn", reason="mmcv-full is not installed")
    branch, bev, box, query, time_diff = make()
    grid = grid_of(branch, box, query, time_diff)
    values = branch.values(bev)
    weights = branch.scale_weights(query).view(2, 3, 2, 1, 6).softmax(-1)
    frames = branch.attention.bev_queue_weight(query).softmax(-1)
    total = sum(
        frames[..., t, None]
        * ops.multi_scale_deformable_attn_pytorch(
            values[:, t].reshape(2, 60, 2, 4), torch.tensor([[6, 10]]), grid[:, t, :, :, None], weights
        )
        for t in range(2)
    )
    expected = query + branch.attention.output_proj(total)
    torch.testing.assert_close(run(branch, bev, box, query, time_diff), expected)


def test_a_batch_of_two_is_two_batches_of_one():
    branch, *inputs = make()
    both = run(branch, *inputs)
    for b in range(2):
        torch.testing.assert_close(run(branch, *(x[b : b + 1] for x in inputs)), both[b : b + 1])


def test_upstreams_batch_mixing_changes_batches_of_two_and_not_those_of_one():
    branch, *inputs = make()
    legacy, *_ = make(legacy_bev_batch_mixing=True)
    assert not torch.allclose(run(legacy, *inputs), run(branch, *inputs))
    alone = [x[:1] for x in inputs]
    assert torch.equal(run(legacy, *alone), run(branch, *alone))


def test_upstreams_batch_mixing_pairs_batch_major_maps_with_frame_major_points():
    branch, bev, box, query, time_diff = make(legacy_bev_batch_mixing=True)
    values = branch.values(bev).flatten(0, 1)  # batch-major
    correct, *_ = make()
    expected = []
    for b in range(2):
        frames = []
        for t in range(2):
            slot = b * 2 + t
            # Slot b * T + t of the maps meets slot t' * B + b' of the points: b' = slot % B, t' = slot // B.
            other, frame = slot % 2, slot // 2
            points = slice(other, other + 1)
            grid = grid_of(correct, box[points], query[points], time_diff[points])
            weights = correct.scale_weights(query[points]).view(1, 3, 2, 6).softmax(-1)
            sampled = torch.zeros(3, 8, dtype=torch.float64)
            for q, g, k in [(q, g, k) for q in range(3) for g in range(2) for k in range(6)]:
                x, y = grid[0, frame, q, g, k].tolist()
                part = slice(4 * g, 4 * g + 4)
                image = values[slot].permute(2, 0, 1)[part]
                sampled[q, part] += weights[0, q, g, k] * bilinear(image, x * 10 - 0.5, y * 6 - 0.5)
            frames.append(sampled)
        share = correct.attention.bev_queue_weight(query[b]).softmax(-1)
        fused = sum(share[:, t, None] * frames[t] for t in range(2))
        expected.append(query[b] + correct.attention.output_proj(fused))
    torch.testing.assert_close(run(branch, bev, box, query, time_diff), torch.stack(expected))


def test_gradients_are_those_of_finite_differences():
    branch, bev, box, query, time_diff = make()
    leaves = [x[:1].clone().requires_grad_() for x in (bev, box[..., :8], query)]

    def sample(bev, box8, query):
        return run(branch, bev, torch.cat([box8, box[:1, :, 8:]], dim=-1), query, time_diff[:1])

    assert torch.autograd.gradcheck(sample, leaves, fast_mode=True)


def test_a_map_of_another_size_is_refused_by_name():
    branch, bev, *_ = make()
    with pytest.raises(ValueError, match=r"has \(6, 9\) cells .* made for \(6, 10\); set the transformer's bev_shape"):
        branch.values(bev[..., :9])
