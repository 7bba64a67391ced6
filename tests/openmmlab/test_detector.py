"""mmdet3d builds the detector from both configs, and it takes what mmcv's loaders and runners hand over."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv import Config
from mmcv.parallel import DataContainer, collate, scatter
from mmcv.runner import wrap_fp16_model
from mmdet.models.builder import MODELS
from mmdet3d.core.bbox import LiDARInstance3DBoxes
from mmdet3d.models import build_model

import racdino.detector
from racdino.openmmlab.detector import RaCFormer, register_detector

sys.path.append(str(Path(__file__).parents[1] / "detector"))
from small_detector import CAMERAS, FRAMES, item, make_batch, small_config

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(autouse=True)
def _registered():
    register_detector()


def detector(**changes):
    torch.manual_seed(0)
    return build_model(Config({"model": small_config(**changes)}).model)


def as_sample(batch, index, testing=False):
    """Sample ``index`` as upstream's pipelines end: DataContainers, with augmentations' lists in testing."""
    boxes = LiDARInstance3DBoxes(batch.gt_boxes[index], box_dim=9)
    meta = {
        "lidar2img": [matrix.double().numpy() for matrix in batch.lidar2img[index]],
        "img_timestamp": batch.img_timestamp[index].tolist(),
        "sample_key": batch.sample_keys[index],
    }
    sample = {
        "img": DataContainer(batch.img[index], stack=True),
        "radar_points": [DataContainer(points) for points in batch.radar_points[index]],
        "radar_depth": DataContainer(batch.radar_depth[index], stack=True),
        "radar_rcs": DataContainer(batch.radar_rcs[index], stack=True),
        "gt_depth": DataContainer(batch.gt_depth[index], stack=True),
        "img_metas": DataContainer(meta, cpu_only=True),
    }
    if testing:
        return {key: [value] for key, value in sample.items()}
    sample["gt_bboxes_3d"] = DataContainer(boxes, cpu_only=True)
    sample["gt_labels_3d"] = DataContainer(batch.gt_labels[index])
    return sample


def collated(batch, testing=False):
    samples = [as_sample(batch, index, testing) for index in range(len(batch.img))]
    return scatter(collate(samples, samples_per_gpu=len(samples)), [-1])[0]


def test_training_data_of_mmcv_gives_the_losses_of_the_plain_detector():
    batch = make_batch()
    model = detector()
    torch.manual_seed(0)
    plain = racdino.detector.build(small_config())
    expected = plain.loss(batch)
    result = model.train_step(collated(batch), None)
    assert result["num_samples"] == 2
    assert set(result["log_vars"]) == {*expected, "loss"}
    for name, value in expected.items():
        assert result["log_vars"][name] == pytest.approx(value.item(), rel=1e-5), name
    assert result["loss"].item() == pytest.approx(sum(expected.values()).item(), rel=1e-5)
    result["loss"].backward()


@pytest.mark.parametrize("testing", [True, False])
def test_test_data_of_mmcv_gives_mmdet3d_boxes(testing):
    batch = make_batch()
    model = detector().eval()
    data = collated(batch, testing)
    with torch.no_grad():
        found = model(return_loss=False, rescale=True, **data) if testing else model(return_loss=False, **data)
    for result, detections in zip(found, model.detect(batch), strict=True):
        boxes = result["pts_bbox"]["boxes_3d"]
        assert isinstance(boxes, LiDARInstance3DBoxes)
        torch.testing.assert_close(boxes.tensor, detections.boxes, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(boxes.bottom_center, detections.boxes[:, :3], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(result["pts_bbox"]["scores_3d"], detections.scores, rtol=1e-4, atol=1e-5)
        assert torch.equal(result["pts_bbox"]["labels_3d"], detections.labels)


def test_samples_of_a_batch_are_those_of_the_loader():
    data = collated(make_batch())
    alone = collated(item(make_batch(), 1))
    assert torch.equal(alone["img"][0], data["img"][1])
    assert len(data["radar_points"]) == FRAMES
    assert data["img"].shape[1] == FRAMES * CAMERAS


def test_boxes_without_velocity_are_refused():
    data = collated(make_batch(1))
    data["gt_bboxes_3d"] = [LiDARInstance3DBoxes(np.zeros((1, 7)))]
    with pytest.raises(ValueError, match="with_velocity"):
        detector().train_step(data, None)


def test_several_test_time_augmentations_are_refused():
    data = {key: value * 2 for key, value in collated(make_batch(1), testing=True).items()}
    with pytest.raises(ValueError, match="2 test-time augmentations"):
        detector().eval()(return_loss=False, **data)


def test_half_precision_of_mmcv_is_that_of_the_image_branch():
    model = detector()
    assert model.image_precision is None
    wrap_fp16_model(model)
    assert model.image_precision == torch.float16
    assert next(model.parameters()).dtype == torch.float32


def test_backbones_of_mmdet_resolve_and_are_initialised():
    model = detector(
        img_backbone={"type": "mmdet.ResNet", "depth": 18, "norm_eval": True},
    )
    assert type(model.img_backbone).__module__.startswith("mmdet")
    model.init_weights()
    assert not model.img_backbone.layer1[0].bn2.weight.any()  # zero_init_residual of its init_weights


def test_registering_twice_is_fine_and_a_second_class_of_a_name_is_named(monkeypatch):
    register_detector()
    assert MODELS.get("RaCFormer") is RaCFormer
    assert MODELS.get("ResNet").__module__.startswith("mmdet")
    monkeypatch.setitem(MODELS.module_dict, "RaCFormer_head", object)
    with pytest.raises(KeyError, match="RaCFormer_head"):
        register_detector()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["", "_with_dinov2_fixed"])
def test_mmdet3d_builds_both_configs_unchanged(name):
    config = Config.fromfile(str(CONFIGS / f"racformer_r50_nuimg_704x256_f8{name}.py"))
    if name:  # the published weights need not be on this machine
        config.model.dinov2_adapter.pretrained_vit = False
    model = build_model(config.model, train_cfg=config.get("train_cfg"), test_cfg=config.get("test_cfg"))
    model.init_weights()
    assert isinstance(model, RaCFormer)
    ours = [key for key in model.state_dict() if not key.startswith(("dinov2_adapter", "adapter_fusion"))]
    assert len(ours) == 572
    assert hasattr(model, "adapter_fusion") == bool(name)
