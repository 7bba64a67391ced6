"""ResNet as OpenMMLab's configs describe it: torchvision's network, several maps out, stages frozen on demand.

Source: He et al. 2016, arXiv:1512.03385; the stride sits in the 3x3 convolution ("pytorch" style).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models import resnet as torchvision_resnet

from racdino.detector.conv_module import batch_norm_keys
from racdino.detector.registry import register

_BASIC = torchvision_resnet.BasicBlock
_BOTTLENECK = torchvision_resnet.Bottleneck
_LAYERS: dict[int, tuple[type[nn.Module], list[int]]] = {
    18: (_BASIC, [2, 2, 2, 2]),
    34: (_BASIC, [3, 4, 6, 3]),
    50: (_BOTTLENECK, [3, 4, 6, 3]),
    101: (_BOTTLENECK, [3, 4, 23, 3]),
    152: (_BOTTLENECK, [3, 8, 36, 3]),
}


@register("ResNet")
class ResNet(torchvision_resnet.ResNet):
    """Image backbone with torchvision's (and upstream's) state-dict names, without the classifier.

    Args:
        depth: 18, 34, 50, 101 or 152.
        num_stages, out_indices: how many of the four stages there are, and whose maps are returned.
        frozen_stages: stages 1 to this one, and the stem with them, are not trained and stay in eval mode; -1: none,
            0: the stem alone.
        norm_cfg, norm_eval: batch norm's keys; ``requires_grad`` says whether its scale and shift are trained;
            ``norm_eval`` keeps its statistics as they were loaded.
        style: only "pytorch". with_cp: compute activations again in the backward pass instead of keeping them.
        zero_init_residual: blocks start as the identity, which norm_eval without pretrained weights needs.

    Raises:
        ValueError: a depth or style that is not here, or weights asked for in the wrong place.
    """

    def __init__(
        self,
        depth: int,
        num_stages: int = 4,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_cfg: Mapping[str, Any] | None = None,
        norm_eval: bool = True,
        style: str = "pytorch",
        with_cp: bool = False,
        zero_init_residual: bool = True,
        pretrained: str | None = None,
        init_cfg: Any = None,
    ) -> None:
        if depth not in _LAYERS:
            raise ValueError(f"ResNet has depth={depth}; it can be {', '.join(map(str, _LAYERS))}.")
        if style != "pytorch":
            raise ValueError(f"ResNet has style={style!r}; only 'pytorch' (stride in the 3x3 convolution) is here.")
        if not set(out_indices) <= set(range(num_stages)) or not 1 <= num_stages <= 4:
            raise ValueError(f"ResNet cannot return the stages {tuple(out_indices)} of {num_stages} (1 to 4 exist).")
        if pretrained is not None or init_cfg is not None:
            raise ValueError(
                f"ResNet's config asks for weights ({pretrained or init_cfg}), which nothing would load: take the key "
                "out and name the checkpoint in load_from, with revise_keys=[('backbone', 'img_backbone')]."
            )
        norm_cfg = norm_cfg or {"type": "BN"}
        keys = batch_norm_keys(norm_cfg)
        block, layers = _LAYERS[depth]
        super().__init__(
            block,
            layers,
            zero_init_residual=zero_init_residual,
            norm_layer=lambda channels: nn.BatchNorm2d(channels, **keys),
        )
        del self.fc, self.avgpool
        for stage in range(num_stages, 4):
            delattr(self, f"layer{stage + 1}")
        self.num_stages = num_stages
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        for module in self._norms():
            module.requires_grad_(norm_cfg.get("requires_grad", True))
        for part in self._frozen_parts():
            part.requires_grad_(False)
        self.train()  # what is frozen is so from the start

    def _norms(self) -> list[nn.Module]:
        return [module for module in self.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]

    def _frozen_parts(self) -> list[nn.Module]:
        stem = [self.conv1, self.bn1] if self.frozen_stages >= 0 else []
        return stem + [getattr(self, f"layer{stage + 1}") for stage in range(min(self.frozen_stages, self.num_stages))]

    def train(self, mode: bool = True) -> ResNet:
        super().train(mode)
        for part in [*self._frozen_parts(), *(self._norms() if self.norm_eval else [])]:
            part.eval()
        return self

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised images to one map per index: stage i has stride 4 * 2**i, sizes rounded up."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        maps = []
        for stage in range(self.num_stages):
            for block in getattr(self, f"layer{stage + 1}"):
                recompute = self.with_cp and torch.is_grad_enabled() and x.requires_grad
                x = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
            if stage in self.out_indices:
                maps.append(x)
        return maps
