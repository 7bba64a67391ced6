"""RD720 to RD724: numbers of a config that must agree with each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from racdino.doctor.check import Group, Problem, check
from racdino.doctor.checkout.configs.subject import (
    ADAPTER,
    Found,
    at,
    configs_of,
    numbers,
    sections,
    shown,
    whole,
)
from racdino.doctor.checkout.configs.text_config import TextConfig
from racdino.doctor.checkout.subject import Checkout

_RESNET_STAGES = {18: [64, 128, 256, 512], 34: [64, 128, 256, 512]}


@check(
    "RD720",
    Group.CONFIGS,
    "class names and num_classes agree",
    remedy="write num_classes=len(class_names) in the head, the transformer and the box coder",
    of_checkout=True,
)
def classes_agree(checkout: Checkout) -> Iterator[Problem]:
    """The number of classes stands in the head, the transformer and the box coder, and the names stand beside. A number
    that is too small fails in the loss with an index error (on a GPU with an assertion in a kernel), one that is too
    large trains classes that do not exist.
    """
    yield from configs_of(checkout).problems(_classes)


def _classes(config: TextConfig) -> Iterator[Found]:
    names = at(config.values, "class_names")
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        return
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        yield ("class_names",), f"class_names has {', '.join(twice)} twice"
    head = at(config.values, "model", "pts_bbox_head")
    for keys, section in sections(head, ("model", "pts_bbox_head")):
        count = whole(section, "num_classes")
        if count is not None and count != len(names):
            cause = f"{shown(keys)}.num_classes is {count}, and class_names has {len(names)}"
            yield (*keys, "num_classes"), cause


@check(
    "RD721",
    Group.CONFIGS,
    "channels fit from backbone to neck and from radar encoder to scatter",
    remedy="set in_channels to what comes before: ResNet-50 gives [256, 512, 1024, 2048], DinoAdapter [embed_dim] * 4",
    of_checkout=True,
)
def channels_fit(checkout: Checkout) -> Iterator[Problem]:
    """A part whose `in_channels` is not what the part before it gives fails at the first image with "expected input to
    have N channels". The integration record had it in the radar encoder (problem 5: dimensions that did not match).

    Compared: a ResNet's or DinoAdapter's maps with `img_neck` and `img_lss_neck`, and
    `radar_voxel_encoder.feat_channels` with `radar_middle_encoder.in_channels`.
    """
    yield from configs_of(checkout).problems(_channels)


def _channels(config: TextConfig) -> Iterator[Found]:
    model = at(config.values, "model")
    stages = _stages(at(model, "img_backbone"))
    for name, wanted in (("img_neck", stages), ("img_lss_neck", stages[-2:] if stages else None)):
        given = numbers(model, name, "in_channels")
        if wanted and given and given != wanted:
            yield ("model", name, "in_channels"), f"{name}.in_channels is {given}, and the backbone gives {wanted}"
    encoded, scattered = (
        numbers(model, "radar_voxel_encoder", "feat_channels"),
        whole(model, "radar_middle_encoder", "in_channels"),
    )
    if encoded and scattered and encoded[-1] != scattered:
        cause = f"radar_middle_encoder.in_channels is {scattered}, and radar_voxel_encoder gives {encoded[-1]}"
        yield ("model", "radar_middle_encoder", "in_channels"), cause


def _stages(backbone: Any) -> list[float] | None:
    if at(backbone, "type") == ADAPTER:
        width = whole(backbone, "embed_dim") if "embed_dim" in backbone else 768
        return [width] * 4 if width else None
    if at(backbone, "type") == "ResNet" and isinstance(backbone, Mapping):
        out = numbers(backbone, "out_indices") if "out_indices" in backbone else [0, 1, 2, 3]
        depth = whole(backbone, "depth")
        if (
            depth is None
            or out is None
            or not set(out) <= {0, 1, 2, 3}
            or at(backbone, "base_channels") not in (None, 64)
        ):
            return None
        stages = _RESNET_STAGES.get(depth, [256, 512, 1024, 2048])
        return [stages[int(index)] for index in out]
    return None


@check(
    "RD722",
    Group.CONFIGS,
    "the range, the pillars and the BEV grid fit",
    remedy="change range, voxel size and output_shape together: cells = (max - min) / size",
    of_checkout=True,
)
def grid_fits(checkout: Checkout) -> Iterator[Problem]:
    """One pillar is one cell of the BEV map: the range divided by the pillar's size is the map's shape, in x and in y.
    And the image branch's grid (`grid_config`) must have as many cells as the radar branch's, since both are sampled
    with the same positions. Sizes that do not fit stop the scatter with an index error, or give maps whose cells are
    not where the boxes are, which trains and finds little.
    """
    yield from configs_of(checkout).problems(_grid)


def _grid(config: TextConfig) -> Iterator[Found]:
    model = at(config.values, "model")
    area, size = (
        numbers(model, "radar_voxel_layer", "point_cloud_range"),
        numbers(model, "radar_voxel_layer", "voxel_size"),
    )
    shape = numbers(model, "radar_middle_encoder", "output_shape")
    if not (area and size and shape and len(area) == 6 and len(size) == 3 and len(shape) == 2 and all(size)):
        return
    cells = [round((area[axis + 3] - area[axis]) / size[axis], 3) for axis in (1, 0)]  # the map is (y, x)
    if cells != shape:
        cause = f"the radar range has {_size(cells)} pillars, and output_shape is {_size(shape)}"
        yield ("model", "radar_middle_encoder", "output_shape"), cause
    grid = [numbers(model, "img_lss_view_transformer", "grid_config", axis) for axis in "yx"]
    bounds = [axis for axis in grid if axis and len(axis) == 3 and axis[2]]
    if len(bounds) == 2:
        cells = [round((high - low) / step, 3) for low, high, step in bounds]
        if cells != shape:
            cause = f"grid_config has {_size(cells)} cells, and the radar map {_size(shape)}"
            yield ("model", "img_lss_view_transformer", "grid_config"), cause


@check(
    "RD723",
    Group.CONFIGS,
    "the pipelines load as many frames as the model takes",
    remedy="set sweeps_num to num_frames - 1 in every pipeline; mmcv merges no lists, so write the pipeline out",
    of_checkout=True,
)
def frames_agree(checkout: Checkout) -> Iterator[Problem]:
    """`num_frames` counts the current frame, `sweeps_num` the past ones. With another number the model's reshape of
    images to frames fails, or takes cameras for frames where the numbers happen to divide.
    """
    yield from configs_of(checkout).problems(_frames)


def _frames(config: TextConfig) -> Iterator[Found]:
    frames = whole(config.values, "model", "pts_bbox_head", "transformer", "num_frames")
    for split in ("train", "val", "test"):
        for keys, step in sections(at(config.values, "data", split, "pipeline"), ("data", split, "pipeline")):
            past = at(step, "sweeps_num")
            if frames and type(past) is int and past != frames - 1:
                yield (
                    (*keys, "sweeps_num"),
                    f"{shown(keys)} ({step.get('type')}) loads {past} past frames, not {frames - 1}",
                )


@check(
    "RD724",
    Group.CONFIGS,
    "the image size is the same everywhere and a multiple of the strides",
    remedy="use ida_aug_conf['final_dim'] for input_size, and multiples of 32",
    of_checkout=True,
)
def image_sizes_agree(checkout: Checkout) -> Iterator[Problem]:
    """The view transformer computes its frustum from `input_size`; images come out of the pipeline as `final_dim`,
    padded to a multiple of `size_divisor`. Where the two differ, its depth bins and the feature map have different
    shapes.
    """
    yield from configs_of(checkout).problems(_image_sizes)


def _image_sizes(config: TextConfig) -> Iterator[Found]:
    final, given = final_size(config), numbers(config.values, "model", "img_lss_view_transformer", "input_size")
    if not final or not given:
        return
    if given != final:
        cause = f"input_size is {_size(given)}, and the pipeline gives {_size(final)} (height x width)"
        yield ("model", "img_lss_view_transformer", "input_size"), cause
    stride = whole(config.values, "model", "img_lss_view_transformer", "downsample")
    if stride and any(side % stride for side in final):
        yield ("ida_aug_conf", "final_dim"), f"images of {_size(final)} are no multiple of downsample {stride}"


def final_size(config: TextConfig) -> list[float] | None:
    """Height and width of the images that the training pipeline gives."""
    for _, step in sections(at(config.values, "data", "train", "pipeline")):
        size = numbers(step, "ida_aug_conf", "final_dim")
        if size and len(size) == 2:
            return size
    return None


def _size(size: list[float]) -> str:
    return " x ".join(f"{side:g}" for side in size)
