"""ResNet as OpenMMLab's configs describe it: torchvision's network, several maps out, stages frozen on demand.

Computed differently than there: batch norms in eval mode are folded into the convolutions, 1x1 convolutions are
products over pixels, and everything is in channels-last memory.
Source: He et al. 2016, arXiv:1512.03385; the stride sits in the 3x3 convolution ("pytorch" style).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models import resnet as torchvision_resnet

from racdino.backbones.frozen import Remembering
from racdino.backbones.layers import for_batch_norm
from racdino.backbones.spatial_prior import project
from racdino.detector.conv_module import batch_norm_keys
from racdino.detector.folded_norm import Folded, Layer, fold
from racdino.detector.registry import register
from racdino.detector.residual_block import residual_block
from racdino.ops.autocast import compute_dtype
from racdino.ops.serving import is_plain

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
class ResNet(Remembering, torchvision_resnet.ResNet):
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

    conv1: nn.Conv2d
    bn1: nn.BatchNorm2d
    maxpool: nn.MaxPool2d

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
        """(B, 3, H, W) normalised images to one map per index: stage i has stride 4 * 2**i, sizes rounded up.

        The maps are in channels-last memory.
        """
        blocks = [block for stage in range(self.num_stages) for block in getattr(self, f"layer{stage + 1}")]
        dtype = compute_dtype(x)
        folded = self._folded(
            [Layer(self.conv1, self.bn1), *(layer for block in blocks for layer in _layers(block))], dtype
        )
        x = x.to(dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = self.maxpool(self._stem(x, folded.get(self.conv1)))
        maps = []
        for stage in range(self.num_stages):
            for block in getattr(self, f"layer{stage + 1}"):
                x = self._block(block, x, folded)
            if stage in self.out_indices:
                maps.append(x)
        return maps

    def _folded(self, layers: list[Layer], dtype: torch.dtype) -> dict[nn.Module, Folded]:
        """Those that can be, by their convolution. What is frozen is folded once."""
        trained: list[Layer] = []
        frozen: list[Layer] = []
        for layer in layers:
            if layer.foldable:
                trains = any(tensor.requires_grad for tensor in layer.tensors())
                (trained if trains else frozen).append(layer)
        folded = fold(trained, dtype)
        if frozen:
            sources = [tensor for layer in frozen for tensor in layer.tensors()]
            folded += self.remembered(("folded", dtype), sources, lambda *_: fold(frozen, dtype))
        return {layer.conv: one for layer, one in zip(trained + frozen, folded, strict=True)}

    def _stem(self, x: Tensor, folded: Folded | None) -> Tensor:
        if folded is None:
            return F.relu(self.bn1(for_batch_norm(self.conv1(x))), inplace=True)
        return F.relu(F.conv2d(x, folded.weight, folded.shift.to(x.dtype), stride=2, padding=3), inplace=True)

    def _block(self, block: Any, x: Tensor, folded: dict[nn.Module, Folded]) -> Tensor:
        layers = _layers(block)
        if all(layer.conv in folded for layer in layers):
            convolutions = [folded[layer.conv] for layer in layers]
            shortcut = convolutions.pop() if block.downsample is not None else None
            strides = [layer.conv.stride[0] for layer in layers[: len(convolutions)]]
            return residual_block(x, convolutions, strides, shortcut, self.with_cp)
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(_normalised_block, block, x, use_reentrant=False, preserve_rng_state=False)
        return _normalised_block(block, x)


def _layers(block: Any) -> list[Layer]:
    """Of a block, that of its shortcut last."""
    layers = [Layer(block.conv1, block.bn1), Layer(block.conv2, block.bn2)]
    if hasattr(block, "conv3"):
        layers.append(Layer(block.conv3, block.bn3))
    if block.downsample is not None:
        layers.append(Layer(*block.downsample))
    return layers


def _normalised_block(block: Any, x: Tensor) -> Tensor:
    """torchvision's block where its norms are in training mode, 1x1 convolutions as products."""
    across = x
    *layers, last = (layer for layer in _layers(block))
    if block.downsample is not None:
        across = _normalised(last, x)
    else:
        layers.append(last)
    for layer in layers[:-1]:
        x = F.relu(_normalised(layer, x), inplace=True)
    return F.relu(_normalised(layers[-1], x) + across, inplace=True)


def _normalised(layer: Layer, x: Tensor) -> Tensor:
    conv, norm = layer
    if is_plain(conv, nn.Conv2d) and conv.kernel_size == (1, 1):
        stride = conv.stride[0]
        x = project(conv, x[:, :, ::stride, ::stride])
    else:
        x = conv(x)
    return norm(for_batch_norm(x))
