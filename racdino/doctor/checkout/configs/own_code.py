"""RD715 to RD717: what a config asks of the checkout's own adapter and operator, where it brings them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from racdino.doctor.check import Group, Problem, check
from racdino.doctor.checkout.configs.shapes import final_size
from racdino.doctor.checkout.configs.subject import Found, adapters, at, configs_of, shown, whole
from racdino.doctor.checkout.configs.text_config import TextConfig
from racdino.doctor.checkout.subject import Checkout
from racdino.doctor.finding import Severity

_CAMERAS = 6
_PATCH = 14


@check(
    "RD715",
    Group.CONFIGS,
    "the checkout's own adapter takes the config's image size",
    remedy="pad images to multiples of 14 in forward, F.pad(x, (0, -W % 14, 0, -H % 14)), or delete the copy: "
    "racdino's DinoAdapter pads and crops",
    of_checkout=True,
)
def own_adapter_takes_the_images(checkout: Checkout) -> Iterator[Problem]:
    """DINOv2's patches have 14 pixels, and 256 x 704 is no multiple of 14. Code that was written for DINOv2 stops
    there: "Input image height 256 is not a multiple of patch height 14". RacDINO's DinoAdapter pads to 266 x 714 and
    cuts what that gave off again, so its users never see this.

    Looked at: only where the checkout has a `class DinoAdapter` of its own whose folder pads nothing (no call of a
    `pad` function and no `size_divisor` of 14), and a config whose images are no multiple.
    """
    folders = [PurePosixPath(name).parent for name in _files_with(checkout, ".py", r"^class DinoAdapter\b")]
    if not folders or any(_pads(checkout, folder) for folder in folders):
        return

    def find(config: TextConfig) -> Iterator[Found]:
        size, divisor = (
            final_size(config),
            whole(config.values, "model", "data_aug", "img_pad_cfg", "size_divisor") or 1,
        )
        padded = [-(-int(side) // divisor) * divisor for side in size or []]
        if adapters(config) and any(side % _PATCH for side in padded):
            text = " x ".join(map(str, padded))
            yield (
                ("ida_aug_conf", "final_dim"),
                f"images of {text} are no multiple of 14, and {folders[0]} pads nothing",
            )

    yield from configs_of(checkout).problems(find)


def _pads(checkout: Checkout, folder: PurePosixPath) -> bool:
    inside = [name for name in checkout.files(".py") if folder in PurePosixPath(name).parents]
    return any(re.search(r"\bpad\(|\bZeroPad2d\(|\b_?pad_\w*\(", checkout.text(name) or "") for name in inside)


@check(
    "RD716",
    Group.CONFIGS,
    "the batch divides by im2col_step where the checkout builds its own operator",
    severity=Severity.OPTIONAL,
    remedy="use racdino's MultiScaleDeformableAttention, which takes any batch (`pip uninstall "
    "MultiScaleDeformableAttention` removes the other), or a batch_size that divides",
    of_checkout=True,
)
def batch_divides(checkout: Checkout) -> Iterator[Problem]:
    """The original operator asserts that the batch is a multiple of min(batch, im2col_step), and im2col_step is 64. The
    adapter's batch is samples times cameras times frames: with 6 cameras and 8 frames, one sample is 48 and passes, two
    are 96 and three 144, and both stop in the first step (Deformable-DETR#224, BEVFormer#188).

    Looked at: only where sources of that operator with the assertion lie in the checkout. RacDINO's operator takes any
    batch and ignores im2col_step.
    """
    if not _files_with(checkout, (".cu", ".cuh", ".cpp", ".h"), r"%\s*im2col_step_?\s*==\s*0"):
        return

    def find(config: TextConfig) -> Iterator[Found]:
        samples = whole(config.values, "batch_size") or whole(config.values, "data", "samples_per_gpu")
        frames = whole(config.values, "model", "pts_bbox_head", "transformer", "num_frames") or 1
        images = samples * _CAMERAS * frames if samples else 0
        if adapters(config) and images > 64 and images % 64:
            cause = f"{samples} samples x {_CAMERAS} cameras x {frames} frames are {images} images, no multiple of 64"
            yield ("batch_size",), cause

    yield from configs_of(checkout).problems(find)


@check(
    "RD717",
    Group.CONFIGS,
    "half precision reaches no operator that cannot compute in it",
    severity=Severity.OPTIONAL,
    remedy="use racdino's MultiScaleDeformableAttention, which computes in half precision, or cast to float before it",
    of_checkout=True,
)
def operator_knows_half(checkout: Checkout) -> Iterator[Problem]:
    """The original operator is compiled for float and double. Under `fp16` or an `Fp16OptimizerHook` it stops with
    "ms_deform_attn_forward_cuda" not implemented for 'Half' (mmcv#2011).

    Looked at: only where sources of that operator lie in the checkout that dispatch floating types without half.
    """
    sources = _files_with(checkout, (".cu", ".cuh"), r"AT_DISPATCH_FLOATING_TYPES\([^;]{0,80}ms_deform_attn")
    if not sources:
        return

    def find(config: TextConfig) -> Iterator[Found]:
        half = at(config.values, "optimizer_config", "type") == "Fp16OptimizerHook" or at(config.values, "fp16")
        if half and adapters(config):
            key = "fp16" if at(config.values, "fp16") else "optimizer_config"
            keys = ", ".join(shown(where) for where, _ in adapters(config))
            yield (key,), f"{key} asks for half precision, {keys} uses {sources[0]}, which is compiled without it"

    yield from configs_of(checkout).problems(find)


def _files_with(checkout: Checkout, suffixes: str | tuple[str, ...], pattern: str) -> list[str]:
    endings = (suffixes,) if isinstance(suffixes, str) else suffixes
    names = [name for ending in endings for name in checkout.files(ending)]
    return [name for name in names if re.search(pattern, checkout.text(name) or "", re.MULTILINE)]
