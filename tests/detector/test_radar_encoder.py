"""Pillars and their vectors equal mmcv's and mmdet3d's, and an empty frame is a frame like others."""

from __future__ import annotations

import pytest
import torch

from racdino.detector.radar_encoder import PillarFeatureNet, PointPillarsScatter, encode_radar, radar_bev_conv
from racdino.detector.registry import build
from racdino.detector.voxelisation import Voxelisation

Voxelization = pytest.importorskip("mmcv.ops", reason="mmcv-full is not installed").Voxelization
mmdet3d_models = pytest.importorskip("mmdet3d.models", reason="mmdet3d is not installed")
Mmdet3dScatter = mmdet3d_models.middle_encoders.PointPillarsScatter
Mmdet3dPillarFeatureNet = mmdet3d_models.voxel_encoders.PillarFeatureNet
RANGE = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
SIZE = [0.8, 0.8, 8]
ENCODER = {
    "in_channels": 7,
    "feat_channels": [64],
    "with_distance": False,
    "voxel_size": SIZE,
    "norm_cfg": {"type": "BN1d", "eps": 1e-3, "momentum": 0.01},
    "legacy": False,
}


def cloud(n, seed, spread=60.0):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(n, 7, generator=generator)
    points[:, :2] = (torch.rand(n, 2, generator=generator) * 2 - 1) * spread
    points[:, 2] = 0
    return points


@pytest.mark.parametrize(("spread", "max_voxels"), [(60.0, 40000), (3.0, 40000), (60.0, 100)])
def test_pillars_equal_those_of_mmcv(spread, max_voxels):
    keys = {"voxel_size": SIZE, "point_cloud_range": RANGE, "max_num_points": 10, "max_voxels": max_voxels}
    points = cloud(500, 0, spread)
    voxels, coordinates, counts = Voxelization(**keys, deterministic=True)(points)
    ours = Voxelisation(**keys)([points])
    torch.testing.assert_close(ours.points, voxels, rtol=0, atol=0)
    assert torch.equal(ours.coordinates[:, 1:], coordinates.long())
    assert torch.equal(ours.counts, counts.long())


def test_clouds_together_are_the_clouds_apart():
    layer = Voxelisation(SIZE, RANGE, max_num_points=3, max_voxels=(40, 60)).eval()
    clouds = [cloud(200, 1, 20.0), cloud(0, 2), cloud(100, 3, 20.0)]
    together = layer(clouds)
    for index, single in enumerate(clouds):
        of_cloud = together.coordinates[:, 0] == index
        alone = layer([single])
        assert len(alone.counts) <= 60
        assert torch.equal(together.points[of_cloud], alone.points)
        assert torch.equal(together.coordinates[of_cloud, 1:], alone.coordinates[:, 1:])
        assert torch.equal(together.counts[of_cloud], alone.counts)


def test_more_pillars_than_allowed_are_cut_in_training_and_in_testing():
    layer = Voxelisation(SIZE, RANGE, max_num_points=3, max_voxels=(40, 60))
    assert [len(layer.train(mode)([cloud(500, 0)]).counts) for mode in (True, False)] == [40, 60]


@pytest.mark.parametrize("point_cloud_range", [None, RANGE])
@pytest.mark.parametrize("feat_channels", [[64], [32, 64]])
@pytest.mark.parametrize("training", [True, False])
def test_pillar_vectors_equal_those_of_mmdet3d_with_the_same_weights(training, feat_channels, point_cloud_range):
    torch.manual_seed(0)
    keys = {**ENCODER, "feat_channels": feat_channels}
    if point_cloud_range:
        keys["point_cloud_range"] = point_cloud_range
    ours, theirs = PillarFeatureNet(**keys).train(training), Mmdet3dPillarFeatureNet(**keys).train(training)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    pillars = Voxelisation(SIZE, RANGE, 10, 40000)([cloud(300, 0, 8.0), cloud(200, 1, 8.0)])
    expected = theirs(pillars.points, pillars.counts, pillars.coordinates)
    torch.testing.assert_close(ours(pillars), expected, rtol=1e-4, atol=1e-5)
    for (name, a), (_, b) in zip(ours.named_buffers(), theirs.named_buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


def test_scatter_equals_mmdet3d():
    pillars = Voxelisation(SIZE, RANGE, 10, 40000)([cloud(300, 0), cloud(200, 1)])
    vectors = torch.randn(len(pillars.counts), 5)
    theirs = Mmdet3dScatter(5, [128, 128])
    expected = theirs(vectors, pillars.coordinates, batch_size=2)
    assert torch.equal(PointPillarsScatter(5, (128, 128))(vectors, pillars.coordinates, 2), expected)


def parts():
    torch.manual_seed(0)
    voxelisation = Voxelisation([1.6, 1.6, 8], RANGE, 10, 40000)
    return voxelisation, PillarFeatureNet(**{**ENCODER, "voxel_size": [1.6, 1.6, 8]}), PointPillarsScatter(64, (64, 64))


def test_a_radar_point_lands_in_its_cell():
    voxelisation, _encoder, scatter = parts()
    point = torch.tensor([[10.0, -20.0, 0.0, 5.0, 1.0, 0.0, 0.1]])
    pillars = voxelisation([point])
    canvas = scatter(torch.ones(1, 64), pillars.coordinates, 1)
    assert canvas[0, 0].nonzero().tolist() == [[int((-20 + 51.2) / 1.6), int((10 + 51.2) / 1.6)]]  # row y, column x


@pytest.mark.parametrize("sizes", [(0, 0), (5, 0), (0, 5), (1, 0)])
def test_frames_without_a_point_train_and_give_every_parameter_a_gradient(sizes):
    voxelisation, encoder, scatter = parts()
    convolutions = radar_bev_conv(64, 32)
    clouds = [cloud(n, n, 20.0) for n in sizes]
    out = encode_radar(voxelisation(clouds), len(clouds), encoder, scatter, convolutions)
    out.square().sum().backward()
    assert out.shape == (2, 32, 64, 64)
    assert all(p.grad is not None and p.grad.isfinite().all() for m in (encoder, convolutions) for p in m.parameters())
    assert all(buffer.isfinite().all() for buffer in encoder.buffers())


def test_an_empty_frame_is_the_map_of_no_pillars():
    voxelisation, encoder, scatter = parts()
    convolutions = radar_bev_conv(64, 32).eval()
    encoder.eval()
    with torch.no_grad():
        both = encode_radar(voxelisation([cloud(5, 0, 20.0), cloud(0, 0)]), 2, encoder, scatter, convolutions)
        alone = encode_radar(voxelisation([cloud(0, 0)]), 1, encoder, scatter, convolutions)
        nothing = convolutions(torch.zeros(1, 64, 64, 64))
    torch.testing.assert_close(alone, nothing)
    torch.testing.assert_close(both[1:], nothing)


def test_what_the_pillar_net_cannot_do_is_said():
    with pytest.raises(ValueError, match="legacy=True"):
        build({"type": "PillarFeatureNet", **ENCODER, "legacy": True})
