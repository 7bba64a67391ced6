"""View sampling against loops in float64, against 5-D grid_sample, and against finite differences."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from sampling_loops import bilinear, ray_point

from racdino.detector.decoder.coordinates import Coordinates
from racdino.detector.decoder.ray_points import Boxes, RayPoints
from racdino.detector.decoder.view_sampling import ViewSampling, first_valid_view, map_locations
from racdino.ops import ms_deform_attn, ms_deform_attn_reference

COORDINATES = Coordinates.of([-51.2, -51.2, -5.0, 51.2, 51.2, 3.0])
SIZE = (64, 96)  # height, width of the images


def camera(azimuth: float, jitter: float = 0.0) -> torch.Tensor:
    """A pinhole that looks along ``azimuth`` from near the origin: LiDAR frame to pixels."""
    forward = torch.tensor([math.cos(azimuth), math.sin(azimuth), 0.0], dtype=torch.float64)
    right = torch.tensor([math.sin(azimuth), -math.cos(azimuth), 0.0], dtype=torch.float64)
    down = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)
    matrix = torch.eye(4, dtype=torch.float64)
    intrinsics = torch.tensor([[60.0, 0, 48], [0, 60, 32], [0, 0, 1]], dtype=torch.float64)
    matrix[:3, :3] = intrinsics @ torch.stack([right, down, forward])
    matrix[:3, 3] = intrinsics @ torch.tensor([0.1 + jitter, 0.2, 0.3 - jitter], dtype=torch.float64)
    return matrix


def make(frames=2, views=3, levels=2):
    """A sampler with random weights and what it samples from; batch 2, 4 queries, 8 channels in 2 groups."""
    torch.manual_seed(0)
    sampler = ViewSampling(8, 3, 2, 2, frames, levels, COORDINATES).double()
    for parameter in sampler.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    features = [
        torch.randn(2, frames * views, 8, 16 // 2**level, 24 // 2**level, dtype=torch.float64)
        for level in range(levels)
    ]
    # Two of the cameras overlap, so that "the first valid one" is put to the test; some directions nobody sees.
    lidar2img = torch.stack(
        [camera([0.0, 0.6, 3.0][index % views], 0.05 * index) for index in range(frames * views)]
    ).expand(2, -1, -1, -1)
    box = torch.rand(2, 4, 10, dtype=torch.float64)
    box[..., :2] = torch.tensor([[0.02, 0.2], [0.08, 0.35], [0.5, 0.3], [0.75, 0.5]], dtype=torch.float64)
    box[..., 6:] = torch.randn(2, 4, 4, dtype=torch.float64)
    query = torch.randn(2, 4, 8, dtype=torch.float64)
    time_diff = torch.tensor([[0.0, 0.5, 1.1], [0.0, 0.4, 0.9]], dtype=torch.float64)[:, :frames]
    return sampler, features, lidar2img, box, query, time_diff


def test_samples_are_those_of_loops_over_every_point():
    sampler, features, lidar2img, box, query, time_diff = make()
    B, Q, G, T, N, D, P, L = 2, 4, 2, 2, 3, 3, 2, 2
    views = sampler.views(features, lidar2img, SIZE)
    samples = sampler(Boxes(box, time_diff), sampler.numbers(query), views, 0.08)
    seen = set()
    for b in range(B):
        for q in range(Q):
            raw = sampler.scale_weights.weight @ query[b, q] + sampler.scale_weights.bias
            weights = raw.view(G, T, D * P, L).softmax(-1)
            for t, g, d, p in [(t, g, d, p) for t in range(T) for g in range(G) for d in range(D) for p in range(P)]:
                x, y, dz = ray_point(sampler, box[b, q].tolist(), query[b, q], float(time_diff[b, t]), 0.08, d, g, p)
                point = torch.tensor([x, y, -5 + 8 * float(box[b, q, 2]) + dz, 1.0], dtype=torch.float64)
                chosen = 0
                places = []
                for n in range(N):
                    u, v, depth, _ = (lidar2img[b, t * N + n] @ point).tolist()
                    places.append((u / max(depth, 1e-5) / SIZE[1], v / max(depth, 1e-5) / SIZE[0], depth))
                for n in reversed(range(N)):
                    if places[n][2] > 1e-5 and 0 < places[n][0] < 1 and 0 < places[n][1] < 1:
                        chosen = n
                        seen.add(n)
                expected = torch.zeros(4, dtype=torch.float64)
                for level, maps in enumerate(features):
                    image = maps[b, t * N + chosen, 4 * g : 4 * g + 4]
                    pixel = places[chosen][0] * (image.shape[2] - 1), places[chosen][1] * (image.shape[1] - 1)
                    expected += weights[g, t, d * P + p, level] * bilinear(image, *pixel)
                torch.testing.assert_close(samples[b, q, g, (t * D + d) * P + p], expected, rtol=1e-7, atol=1e-8)
    assert seen == {0, 1, 2}  # the test saw every camera


def read(views, place, view, weights, look_up=ms_deform_attn):
    """Look-ups at (M, K, G, 2) places in (M, K, G) views, levels summed by (M, K, G, levels) weights: (M, K, C)."""
    locations = map_locations(views, place, view).unsqueeze(-2)
    return look_up(views.values, views.shapes, views.starts, locations, weights.unsqueeze(-1))


def test_one_tall_map_reads_as_5d_grid_sample_does_and_views_do_not_bleed():
    sampler, features, lidar2img, *_ = make(frames=1)
    views = sampler.views(features, lidar2img, SIZE)
    place = torch.rand(2, 200, 2, 2, dtype=torch.float64) * 1.6 - 0.3
    view = torch.randint(3, (2, 200, 2))
    weights = torch.rand(2, 200, 2, 2, dtype=torch.float64)
    expected = torch.zeros(2, 200, 2, 4, dtype=torch.float64)
    for level, maps in enumerate(features):
        volume = maps.view(2, 3, 2, 4, *maps.shape[-2:]).permute(0, 2, 3, 1, 4, 5).flatten(0, 1)  # (B*G, C, N, H, W)
        third = view[..., None].double() / 2
        grid = (torch.cat([place, third], dim=-1) * 2 - 1).transpose(1, 2).flatten(0, 1)[:, :, None, None]
        found = F.grid_sample(volume, grid, align_corners=True).view(2, 2, 4, 200).permute(0, 3, 1, 2)
        expected += found * weights[..., level, None]
    found = read(views, place, view, weights)
    torch.testing.assert_close(found.view(2, 200, 2, 4), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(read(views, place, view, weights, ms_deform_attn_reference), found)


@pytest.mark.parametrize("channels_last", [False, True])
def test_views_are_stacked_with_a_row_of_zeros_after_each(channels_last):
    sampler, features, lidar2img, *_ = make()
    B, T, N, C, G = 2, 2, 3, 8, 2
    expected, leaves = [], []
    for level in features:
        if channels_last:
            level = level.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (B, T * N))
        leaves.append(level.requires_grad_())
        tall = F.pad(level, (0, 0, 0, 1)).view(B * T, N, G, C // G, -1, level.shape[-1])
        expected.append(tall.permute(0, 1, 4, 5, 2, 3).reshape(B * T, -1, G, C // G))
    values, expected = sampler.views(leaves, lidar2img, SIZE).values, torch.cat(expected, dim=1)
    assert torch.equal(values, expected)
    upstream = torch.randn_like(expected)
    gradients = [torch.autograd.grad(x, leaves, upstream) for x in (values, expected)]
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))
    half = sampler.views([level.bfloat16() for level in leaves], lidar2img, SIZE).values
    assert half.dtype == torch.float32
    assert torch.equal(half, expected.bfloat16().float())


def test_plain_torch_and_our_operator_agree_in_values_and_gradients():
    sampler, features, lidar2img, box, query, time_diff = make()
    results = []
    for plain in (False, True):
        sampler.plain_view_sampling = plain
        leaves = [query.clone().requires_grad_(), *(level.clone().requires_grad_() for level in features)]
        boxes = Boxes(box, time_diff)
        samples = sampler(boxes, sampler.numbers(leaves[0]), sampler.views(leaves[1:], lidar2img, SIZE), 0.08)
        results.append([samples, *torch.autograd.grad(samples.sin().sum(), leaves)])
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference)


def test_a_point_no_camera_sees_gets_view_0_and_reads_zero():
    points = torch.tensor([[[[-9.0, 0.0, 0.0]]]], dtype=torch.float64)
    lidar2img = torch.stack([camera(0.0), camera(1.0)])[None, None]
    place, view = first_valid_view(points, lidar2img, SIZE)
    assert view.item() == 0
    assert not ((place > 0) & (place < 1)).all()
    sampler, features, *_ = make(frames=1, views=2)
    views = sampler.views(features, lidar2img[0].expand(2, -1, -1, -1), SIZE)
    place, view = (x.expand(2, *x.shape[1:]) for x in (place, view))
    weights = torch.ones(2, 1, 2, 2).double()
    assert not read(views, place.expand(-1, -1, 2, -1), view.expand(-1, -1, 2), weights).any()


def test_where_two_cameras_see_a_point_the_first_is_taken():
    points = torch.tensor([[[[9.0, 3.0, 0.0]]]], dtype=torch.float64)
    cameras = torch.stack([camera(3.0), camera(0.6), camera(0.0)])[None, None]
    assert first_valid_view(points, cameras, SIZE)[1].item() == 1
    assert first_valid_view(points, cameras[:, :, [0, 2, 1]], SIZE)[1].item() == 1


def test_gradients_are_those_of_finite_differences():
    sampler, features, lidar2img, box, query, time_diff = make(levels=1)
    box, query = box[:1, :2], query[:1, :2]
    leaves = [features[0][:1].requires_grad_(), box.requires_grad_(), query.requires_grad_()]

    def sample(level, box, query):
        # Motion follows the velocity without gradient, so the velocity is not among the inputs.
        box = torch.cat([box[..., :8], leaves[1].detach()[..., 8:]], dim=-1)
        boxes = Boxes(box, time_diff[:1])
        return sampler(boxes, sampler.numbers(query), sampler.views([level], lidar2img[:1], SIZE), 0.08)

    assert torch.autograd.gradcheck(sample, leaves, fast_mode=True)


@pytest.mark.parametrize("depth_num", [1, 3, 5])
def test_ray_samples_spread_over_the_region_and_none_leaves_it_by_more_than_half_a_step(depth_num):
    torch.manual_seed(0)
    rays = RayPoints(8, 2, depth_num, 1, 1, COORDINATES)
    torch.nn.init.zeros_(rays.sampling_offset.bias)
    box = torch.tensor([[[0.1, 0.5, 0.5, 0, 0, 0, 0, 1, 0, 0]]])
    for size in (0.0, 50.0):
        boxes = Boxes(box, torch.zeros(1, 1))
        xy, _ = rays.points(boxes, rays.numbers(torch.full((1, 1, 8), size)), 0.06, groups_last=True)
        polar = COORDINATES.polar_from_metres(xy).view(depth_num, 2)
        even = torch.linspace(-0.06, 0.06, depth_num)
        assert polar[:, 0].tolist() == pytest.approx([0.1] * depth_num, abs=1e-5)
        assert float((polar[:, 1] - 0.5 - even).abs().max()) <= 0.06 / depth_num / 2 + 1e-5


def test_a_point_at_the_car_moves_along_x_and_leaves_the_gradients_finite():
    torch.manual_seed(0)
    rays = RayPoints(8, 2, 3, 1, 1, COORDINATES).double()
    torch.nn.init.zeros_(rays.sampling_offset.bias)
    box = torch.tensor([[[0.3, 0.0, 0.5, 0, 0, 0, 0, 1, 0, 0]]], dtype=torch.float64, requires_grad=True)
    boxes = Boxes(box, torch.zeros(1, 1, dtype=torch.float64))
    xy, _ = rays.points(boxes, rays.numbers(torch.zeros(1, 1, 8, dtype=torch.float64)), 0.06, groups_last=True)
    steps = -0.06 + 0.06 * torch.arange(3).double() + (2 * rays.ray_points_offset.bias.sigmoid() - 1) * 0.01
    torch.testing.assert_close(xy.view(3, 2), torch.stack([65 * steps, torch.zeros(3).double()], 1), atol=1e-9, rtol=0)
    xy.square().sum().backward()
    assert box.grad.isfinite().all()
    assert rays.ray_points_offset.bias.grad.abs().min() > 0
