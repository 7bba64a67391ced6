"""The view transformer's geometry, pooling and radar input against naive float64 loops and the specification."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from small_detector import lidar2img, small_config

from racdino.detector.depth_bins import DepthBins
from racdino.detector.randomness import SampleRandom
from racdino.detector.view_transformer import LSSViewTransformer

SIZE, DIM = (64, 96), 32


def transformer(**changes):
    torch.manual_seed(0)
    keys = {**small_config()["img_lss_view_transformer"], **changes}
    return LSSViewTransformer(**{key: value for key, value in keys.items() if key != "type"})


def inputs(scenes=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    depth = torch.rand(scenes, 6, *SIZE, generator=generator) * 60 + 1
    depth[torch.rand(depth.shape, generator=generator) > 0.01] = 0
    return (
        torch.randn(scenes, 6, DIM, 4, 6, generator=generator),
        lidar2img().expand(scenes, -1, -1, -1),
        depth,
        torch.where(depth > 0, 10 * torch.randn(depth.shape, generator=generator), 0),
    )


def test_frustum_covers_the_image_from_corner_to_corner():
    full = transformer(
        input_size=(256, 704),
        grid_config={
            "x": [-51.2, 51.2, 0.8],
            "y": [-51.2, 51.2, 0.8],
            "z": [-5, 3, 8],
            "depth": [1.0, 65.0, 96.0],
            "rcs": [-64, 64, 64],
        },
    ).frustum
    assert full.shape == (96, 16, 44, 3)
    assert full[0, 0, 0, :2].tolist() == [0, 0]
    assert full[95, 15, 43, :2].tolist() == [703, 255]
    np.testing.assert_allclose(full[:, 3, 7, 2], DepthBins(1, 65, 96).values())


def test_points_project_back_to_their_pixels():
    model = transformer()
    projection = lidar2img()[None].double()
    points = model.points(projection.inverse().float()).double()
    homogeneous = torch.cat([points, torch.ones_like(points[..., :1])], -1)
    pixels = torch.einsum("snij,sndhwj->sndhwi", projection, homogeneous)
    np.testing.assert_allclose(pixels[..., 2], model.frustum[..., 2].expand_as(pixels[..., 2]), atol=1e-3)
    uv = pixels[..., :2] / pixels[..., 2:3]
    np.testing.assert_allclose(uv, model.frustum[..., :2].expand_as(uv), atol=2e-3)


def test_map_is_the_sum_over_a_naive_loop_in_float64():
    model = transformer().eval()
    features, projection, depth, rcs = inputs()
    with torch.no_grad():
        bev, logits = model(features, model.geometry(projection), depth, rcs)
        camera = projection.double().inverse().float()[..., :3, :3].reshape(6, 9)
        _, context = model.depth_net(features[0], model.radar_input(depth[0], rcs[0]), camera, None)
    probability = logits.double().softmax(1)
    inverse = np.linalg.inv(projection[0].double().numpy())
    expected, borderline = np.zeros((DIM, 32, 32)), np.zeros((32, 32), bool)
    metres = model.bins.values().double().tolist()
    for n, d, h, w in np.ndindex(6, 16, 4, 6):
        u, v = w * (SIZE[1] - 1) / 5, h * (SIZE[0] - 1) / 3
        x, y, z = (inverse[n] @ [u * metres[d], v * metres[d], metres[d], 1])[:3]
        column, row = (x + 51.2) / 3.2, (y + 51.2) / 3.2
        inside = 0 <= column < 32 and 0 <= row < 32 and -5 <= z < 3
        near_edge = min(abs(value - round(value)) for value in (column, row, (z + 5) / 8)) < 1e-4
        if near_edge:
            for i in range(2):
                for j in range(2):
                    r, c = math.floor(row - 0.5) + i, math.floor(column - 0.5) + j
                    if 0 <= r < 32 and 0 <= c < 32:
                        borderline[r, c] = True
        if inside:
            value = probability[n, d, h, w].item() * context[n, :, h, w].double().numpy()
            expected[:, math.floor(row), math.floor(column)] += value
    assert not borderline.all()
    assert (np.abs(expected).sum(0) > 0).sum() > 50
    np.testing.assert_allclose(bev[0].numpy()[:, ~borderline], expected[:, ~borderline], atol=1e-4)


def test_a_camera_that_looks_forward_fills_what_is_in_front():
    model = transformer().eval()
    features, projection, depth, rcs = inputs()
    with torch.no_grad():
        bev, _ = model(features[:, :1], model.geometry(projection[:, :1]), depth[:, :1], rcs[:, :1])
    filled = bev[0].abs().sum(0)
    assert filled[16:].any()  # rows are y, forward is +y
    assert not filled[:15].any()


def test_radar_input_is_depth_classes_and_embedded_rcs_of_the_block():
    model = transformer()
    depth, rcs = torch.zeros(1, *SIZE), torch.zeros(1, *SIZE)
    depth[0, 3, 20], rcs[0, 3, 20] = 30.0, -12.0  # block row 0, column 1
    depth[0, 9, 25], rcs[0, 9, 25] = 10.0, -20.0
    out = model.radar_input(depth, rcs)
    assert out.shape == (1, 17 + 32, 4, 6)
    classes = out[0, :17].argmax(0)
    assert classes[0, 1] == model.bins.classes(torch.tensor(10.0))
    assert (classes.flatten() == 16).sum() == 23
    weight, bias = model.rcs_embedding.weight[:, :, 0, 0], model.rcs_embedding.bias
    torch.testing.assert_close(out[0, 17:, 0, 1], weight[:, (-12 + 64) // 2] + bias)
    torch.testing.assert_close(out[0, 17:, 2, 2], bias)


def test_legacy_rcs_background_counts_pixels_without_radar_as_0_dbsm():
    model = transformer(legacy_rcs_background=True)
    depth, rcs = torch.zeros(1, *SIZE), torch.zeros(1, *SIZE)
    depth[0, 3, 20], rcs[0, 3, 20] = 30.0, -12.0
    depth[0, 3, 40], rcs[0, 3, 40] = 30.0, 12.0
    out = model.radar_input(depth, rcs)[0, 17:]
    weight, bias = model.rcs_embedding.weight[:, :, 0, 0], model.rcs_embedding.bias
    torch.testing.assert_close(out[:, 0, 1], weight[:, 32] + bias)  # 0 is larger than -12
    torch.testing.assert_close(out[:, 0, 2], weight[:, 38] + bias)
    torch.testing.assert_close(out[:, 2, 2], weight[:, 32] + bias)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("rcs", [-500.0, 64.0, 1e4, math.nan])
def test_no_rcs_value_breaks_the_input(rcs, legacy):
    depth, values = torch.zeros(1, *SIZE), torch.zeros(1, *SIZE)
    depth[0, 3, 20], values[0, 3, 20] = 30.0, rcs
    assert transformer(legacy_rcs_background=legacy).radar_input(depth, values).isfinite().all()


def test_depth_loss_is_the_mean_focal_loss_of_pixels_with_lidar_times_its_weight():
    model = transformer()
    logits = torch.randn(6, 16, 4, 6)
    gt = torch.zeros(1, 6, *SIZE)
    gt[0, 2, 5, 5], gt[0, 2, 6, 6], gt[0, 4, 20, 70], gt[0, 5, 0, 0] = 20.0, 8.0, 40.0, 70.0  # 70 m is out of range
    expected = 0.0
    for camera, row, column, metres in ((2, 0, 0, 8.0), (4, 1, 4, 40.0)):
        p = logits[camera, :, row, column].double().softmax(0)[model.bins.classes(torch.tensor(metres))].item()
        expected += -0.25 * (1 - p) ** 2 * math.log(p) / 2
    assert model.depth_loss(logits, gt).item() == pytest.approx(2.0 * expected, rel=1e-5)
    model.loss_depth_weight = 1.0  # as SequentialControlHook does
    assert model.depth_loss(logits, gt).item() == pytest.approx(expected, rel=1e-5)


def test_depth_loss_without_lidar_is_zero_and_differentiable():
    logits = torch.randn(6, 16, 4, 6, requires_grad=True)
    loss = transformer().depth_loss(logits, torch.zeros(1, 6, *SIZE))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_dropout_depends_on_the_scene_and_not_on_its_batch():
    model = transformer()
    for module in model.modules():  # batch statistics mix scenes, which is not what is tested
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()

    def run(arguments, *keys):
        features, projection, *radar = arguments
        return model(features, model.geometry(projection), *radar, SampleRandom(keys))[0]

    together = run([torch.cat(pair) for pair in zip(inputs(1, 0), inputs(1, 1), strict=True)], 5, 6)
    alone, other = run(inputs(1, 1), 6), run(inputs(1, 1), 7)
    torch.testing.assert_close(alone[0], together[1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(other, alone, atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"depthnet_cfg": {"use_dcn": True}}, "use_dcn"),
        ({"input_size": (60, 96)}, "no multiple of downsample"),
        (
            {"grid_config": {**small_config()["img_lss_view_transformer"]["grid_config"], "z": [-5, 3, 1]}},
            "8 cells in z",
        ),
    ],
)
def test_what_it_cannot_do_is_said(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        transformer(**changes)


def test_images_of_another_size_are_named():
    features, projection, depth, rcs = inputs()
    with pytest.raises(ValueError, match="input_size"):
        transformer()(features[..., :5], projection, depth, rcs)
