"""The whole detector: upstream's state dict, radar layout, samples apart and together, training without mmcv."""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_detector import ADAPTER, CAMERAS, DIM, FRAMES, item, make_batch, small_config

from racdino.detector import build
from racdino.detector.racformer import by_frame

HERE = Path(__file__).parent


def detector(**changes):
    torch.manual_seed(0)
    return build(small_config(**changes))


def test_baseline_config_has_exactly_the_572_names_and_shapes_of_upstream():
    config = runpy.run_path(str(HERE.parents[1] / "configs" / "racformer_r50_nuimg_704x256_f8.py"))
    lines = (HERE / "state_dict.txt").read_text().splitlines()
    expected = {name: ast.literal_eval(shape) for name, shape in (line.split(" ", 1) for line in lines)}
    assert len(expected) == 572
    assert {name: tuple(x.shape) for name, x in build(config["model"]).state_dict().items()} == expected


def test_radar_maps_are_frame_major_and_legacy_reads_them_as_upstream_does():
    flat = torch.arange(8 * 6)[None]  # value t * 6 + n
    right = by_frame(flat, 8)
    assert all(right[0, t, n] == t * 6 + n for t in range(8) for n in range(6))
    current = by_frame(flat, 8, legacy_layout=True)[0, 0].tolist()
    # The specification's table for frame 0: (frame, camera) whose map each camera gets.
    assert [divmod(value, 6) for value in current] == [(0, 0), (1, 2), (2, 4), (4, 0), (5, 2), (6, 4)]


def test_legacy_radar_layout_changes_what_the_cameras_see_and_nothing_else():
    model, batch = detector().eval(), make_batch(1)
    usual = model.detect(batch)[0].scores
    model.legacy_radar_layout = True
    legacy = model.detect(batch)[0].scores
    assert not torch.equal(usual, legacy)
    order = by_frame(torch.arange(FRAMES * CAMERAS)[None], FRAMES, legacy_layout=True).flatten()
    batch.radar_depth, batch.radar_rcs = batch.radar_depth[:, order.argsort()], batch.radar_rcs[:, order.argsort()]
    torch.testing.assert_close(model.detect(batch)[0].scores, usual)


def test_losses_have_upstreams_names_and_reach_every_trained_parameter():
    model = detector()
    losses = model.loss(make_batch())
    names = {"loss_cls", "loss_bbox", "d0.loss_cls", "d0.loss_bbox"}
    assert set(losses) == names | {f"{name}_dn" for name in names} | {"loss_depth"}
    sum(losses.values()).backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_the_same_batch_gives_the_same_losses_and_gradients_bit_for_bit():
    batch, results = make_batch(), []
    for _ in range(2):
        model = detector()
        torch.manual_seed(len(results))  # nothing may come from the global generator
        losses = model.loss(batch)
        sum(losses.values()).backward()
        results.append([*losses.values(), *(p.grad for p in model.parameters() if p.grad is not None)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_a_batch_of_one_is_an_item_of_a_batch_of_two():
    model, batch = detector().eval(), make_batch(2)
    together = model.detect(batch)
    for index in range(2):
        alone = model.detect(item(batch, index))[0]
        for a, b in zip(alone, together[index], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_detections_are_sorted_boxes_with_scores_and_labels():
    for boxes, scores, labels in detector().eval().detect(make_batch()):
        assert boxes.shape == (len(scores), 9)
        assert labels.dtype == torch.int64
        assert torch.equal(scores, scores.sort(descending=True).values)
        assert boxes.isfinite().all()


@pytest.mark.parametrize("training", [True, False])
def test_frames_without_radar_points_are_frames_like_others(training):
    model, batch = detector().train(training), make_batch()
    batch.radar_points = [[torch.zeros(0, 7)] * FRAMES for _ in range(2)]
    batch.radar_depth, batch.radar_rcs = torch.zeros_like(batch.radar_depth), torch.zeros_like(batch.radar_rcs)
    if training:
        sum(model.loss(batch).values()).backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    else:
        assert all(found.boxes.isfinite().all() for found in model.detect(batch))


def test_samples_without_boxes_train():
    batch = make_batch()
    batch.gt_boxes = [torch.zeros(0, 9)] * 2
    batch.gt_labels = [torch.zeros(0, dtype=torch.int64)] * 2
    losses = detector().loss(batch)
    sum(losses.values()).backward()
    assert all(value.isfinite() for value in losses.values())


def test_one_frame_is_enough():
    model = detector(frames=1)
    assert all(value.isfinite() for value in model.loss(make_batch(1, frames=1)).values())


def test_past_frames_give_the_view_transformer_no_gradient_and_no_statistics():
    model = detector()
    features = torch.randn(2, FRAMES * CAMERAS, DIM, 4, 6, requires_grad=True)
    batch = make_batch()
    bev, _ = model._lss_bev(batch, features, *model._geometries(batch), None)
    assert bev.shape == (2, FRAMES, DIM, 32, 32)
    bev.square().sum().backward()
    assert features.grad[:, :CAMERAS].any()
    assert not features.grad[:, CAMERAS:].any()
    assert model.img_lss_view_transformer.depth_net.training
    assert model.img_lss_view_transformer.depth_net.bn.num_batches_tracked == 1


def test_stop_prev_grad_stops_the_gradient_of_past_frames_and_changes_no_loss():
    batch, losses, gradients = make_batch(1), [], []
    for stop in (0, 1):
        model = detector(stop_prev_grad=stop)
        loss = sum(model.loss(batch).values())
        loss.backward()
        losses.append(loss)
        gradients.append(model.img_backbone.layer4[1].bn2.weight.grad)
        assert model.img_backbone.training
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-4)  # batch norms of the backbone are frozen
    assert not torch.allclose(gradients[0], gradients[1], rtol=1e-2, atol=0)


def test_images_that_need_padding_are_padded_with_their_maps():
    batch = make_batch(1, size=(60, 90))
    assert all(value.isfinite() for value in detector().loss(batch).values())


def test_images_in_bfloat16_give_maps_close_to_the_exact_ones():
    model = detector().eval()
    images = model.preprocess(make_batch(1, frames=1).img[:, :1], None)
    with torch.no_grad():
        exact, half = (model._image_branch()(images, precision) for precision in (None, torch.bfloat16))
    for a, b in zip((*exact.levels, exact.lss), (*half.levels, half.lss), strict=True):
        assert not torch.equal(a, b.float())
        torch.testing.assert_close(b.float(), a, rtol=0.1, atol=0.05 * a.abs().max().item())


def test_the_adapter_is_fused_into_every_stage():
    model = detector(dinov2_adapter=ADAPTER)
    assert [conv.conv.in_channels for conv in model.adapter_fusion.convs] == [64 + 24, 128 + 24, 256 + 24, 512 + 24]
    sum(model.loss(make_batch(1)).values()).backward()
    assert all(p.grad is not None for p in model.adapter_fusion.parameters())
    missing = [n for n, p in model.dinov2_adapter.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing
    assert not any(p.requires_grad for p in model.dinov2_adapter.blocks.parameters())


def test_the_adapter_as_the_only_backbone():
    neck = small_config()["img_neck"]
    lss_neck = small_config()["img_lss_neck"]
    model = detector(
        img_backbone=ADAPTER,
        img_neck={**neck, "in_channels": [24] * 4},
        img_lss_neck={**lss_neck, "in_channels": [24, 24]},
    )
    assert all(value.isfinite() for value in model.loss(make_batch(1)).values())


def test_the_main_neck_is_shared_when_it_has_as_many_maps():
    model = detector(num_lss_fpn=4)
    assert not hasattr(model, "img_lss_neck")
    assert all(value.isfinite() for value in model.loss(make_batch(1)).values())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"pre_process": {"type": "CustomResNet"}}, "pre_process"),
        ({"dep_downsample": 8}, "dep_downsample=8"),
        ({"pretrained": "x.pth"}, "load_from"),
        ({"img_backbone": {"type": "VoVNetCP"}}, "VoVNetCP"),
        ({"depth_head": {}}, "depth_head"),
    ],
)
def test_what_a_config_cannot_have_is_said(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        detector(**changes)


def test_training_needs_ground_truth():
    batch = make_batch(1)
    batch.gt_depth = None
    with pytest.raises(ValueError, match="gt_depth"):
        detector().loss(batch)


def test_a_batch_whose_shapes_do_not_fit_is_named():
    batch = make_batch(1)
    with pytest.raises(ValueError, match="radar_depth is"):
        type(batch)(**{**vars(batch), "radar_depth": batch.radar_depth[..., 1:]})


@pytest.mark.cuda
def test_cuda_finds_the_losses_and_boxes_of_the_cpu():
    batch, losses, found = make_batch(), [], []
    for device in ("cpu", "cuda"):
        model, moved = detector().to(device), batch.to(device)
        losses.append({name: value.item() for name, value in model.loss(moved).items()})
        found.append([x.cpu() for x in model.eval().detect(moved)[0]])
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
    torch.testing.assert_close(found[1][1], found[0][1], rtol=1e-2, atol=1e-3)


@pytest.mark.slow
def test_model_loss_and_optimiser_train_where_mmcv_cannot_be_imported():
    program = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("mmcv", "mmdet", "mmdet3d", "mmseg"):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocked())
sys.path.insert(0, {str(HERE)!r})
import torch
from small_detector import make_batch, small_config
from racdino.detector import build
torch.manual_seed(0)
model = build(small_config())
optimiser = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=2e-3)
batch, first = make_batch(1), None
for _ in range(6):
    loss = sum(model.loss(batch).values())
    first = loss.item() if first is None else first
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 35)
    optimiser.step()
assert not any(name.partition(".")[0] == "mmcv" for name in sys.modules)
print(first, loss.item())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=HERE.parents[1])
    assert done.returncode == 0, done.stderr
    first, last = map(float, done.stdout.split())
    assert last < first
