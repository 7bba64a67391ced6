"""Camera images to feature maps: backbone, optionally DINOv2 beside it, and the two necks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from racdino.backbones import DinoAdapter
from racdino.detector.adapter_fusion import AdapterFusion
from racdino.detector.registry import build


class ImageFeatures(NamedTuple):
    """levels: (B, K, C, H_l, W_l) of each level, finest first, channels-last and in the precision of the branch: the
    view sampling widens them where it copies them. lss: (B, K, C, h, w) float32, contiguous, for the view transformer.
    """

    levels: list[Tensor]
    lss: Tensor


class ImageBranch:
    """What the detector does with its image modules; it owns none, so that their names stay upstream's.

    Args:
        backbone: returns a list of maps, or that list first as DinoAdapter does.
        neck: over all maps. lss_neck: over the last ``num_lss_maps`` of them, or None: the map of the wanted size
            among the neck's own. lss_size: (h, w) that the view transformer wants.
        adapter, fusion: DINOv2 beside the backbone, or None.
    """

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        lss_neck: nn.Module | None,
        num_lss_maps: int,
        lss_size: tuple[int, int],
        adapter: nn.Module | None,
        fusion: AdapterFusion | None,
    ) -> None:
        self.backbone, self.neck, self.lss_neck = backbone, neck, lss_neck
        self.num_lss_maps, self.lss_size = num_lss_maps, lss_size
        self.adapter, self.fusion = adapter, fusion

    def modules(self) -> list[nn.Module]:
        parts = (self.backbone, self.neck, self.lss_neck, self.adapter, self.fusion)
        return [part for part in parts if part is not None]

    def __call__(self, images: Tensor, precision: torch.dtype | None) -> ImageFeatures:
        """(B, K, 3, H, W) normalised images to maps, computed in ``precision`` where autocast says so."""
        batch, count = images.shape[:2]
        with torch.autocast(images.device.type, dtype=precision, enabled=precision is not None):
            # The adapter first: it keeps a GPU busy for longer than the host needs to queue it and all that follows.
            adapted = None if self.adapter is None else _maps(self.adapter(images.flatten(0, 1)))
            maps = _maps(self.backbone(images.flatten(0, 1)))
            if adapted is not None and self.fusion is not None:
                maps = self.fusion(maps, adapted)
            levels = self.neck(maps)
            if self.lss_neck is not None:
                lss = self.lss_neck(maps[-self.num_lss_maps :])
            else:
                lss = next((level for level in levels if tuple(level.shape[2:]) == self.lss_size), None)
        if lss is None:
            sizes = [tuple(level.shape[2:]) for level in levels]
            raise ValueError(f"No level of the neck ({sizes}) has the view transformer's size {self.lss_size}.")
        # The view transformer's plain convolutions want contiguous maps: see DinoAdapter's channels_last.
        return ImageFeatures(
            [level.unflatten(0, (batch, count)) for level in levels],
            lss.float().contiguous().unflatten(0, (batch, count)),
        )

    def with_gradient_for(self, images: Tensor, first: int, precision: torch.dtype | None) -> ImageFeatures:
        """As calling it, but images from index ``first`` of a sample on give no gradient and change no statistics."""
        trained = self(images[:, :first], precision)
        with evaluated(*self.modules()):
            fixed = self(images[:, first:], precision)
        levels = [_joined(*pair) for pair in zip(trained.levels, fixed.levels, strict=True)]
        return ImageFeatures(levels, torch.cat([trained.lss, fixed.lss], 1))


def build_image_modules(
    img_backbone: Mapping[str, Any],
    img_neck: Mapping[str, Any],
    img_lss_neck: Mapping[str, Any] | None,
    dinov2_adapter: Mapping[str, Any] | None,
) -> dict[str, nn.Module]:
    """The image branch's modules by the names they have in the detector."""
    modules = {"img_backbone": build(img_backbone), "img_neck": build(img_neck)}
    if img_lss_neck is not None:
        modules["img_lss_neck"] = build(img_lss_neck)
    if dinov2_adapter is not None:
        modules["dinov2_adapter"] = adapter = build(dinov2_adapter)
        modules["adapter_fusion"] = AdapterFusion(img_neck["in_channels"], adapter.embed_dim)
    for module in modules.values():
        if isinstance(module, DinoAdapter):
            module.channels_last = True  # what the fusion and the necks read without a copy
    return modules


@contextmanager
def evaluated(*modules: nn.Module) -> Iterator[None]:
    """Without gradients, and with ``modules`` in eval mode; their mode afterwards is that of before."""
    modes = [module.training for module in modules]
    for module in modules:
        module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.train(mode)


def _joined(trained: Tensor, fixed: Tensor) -> Tensor:
    """(B, K, C, H, W) and (B, K', C, H, W) to (B, K + K', C, H, W) in channels-last memory."""
    parts = [level.permute(0, 1, 3, 4, 2) for level in (trained, fixed)]
    return torch.cat(parts, 1).permute(0, 1, 4, 2, 3)


def _maps(output: Any) -> list[Tensor]:
    """A backbone's maps; DinoAdapter returns its transformer's last map beside them."""
    return list(output[0] if isinstance(output[0], (list, tuple)) else output)
