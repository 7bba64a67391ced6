"""ViT-Adapter's spatial prior: a small convolutional pyramid beside the transformer.

Source: Chen et al. 2023, arXiv:2205.08534, section 3.3; attributes as in github.com/czczup/ViT-Adapter (Apache-2.0).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from racdino.backbones.layers import for_batch_norm, init_conv
from racdino.ops import batch_norm_act
from racdino.ops.serving import has_hooks, is_plain


class SpatialPriorModule(nn.Module):
    """(B, 3, H, W) to maps at strides 4, 8, 16 and 32, sizes rounded up at every halving, in channels-last memory.

    They have ``embed_dim`` channels, but the first has ``inplanes``: being the largest, it is projected by ``fc1`` only
    where it is used. On a GPU everything is channels-last, which tensor cores read; in the other layout the stem's
    16-bit batch norms took 18 of the 287 ms of a training step with 48 images (H200).

    Batch norms are plain: ``nn.SyncBatchNorm.convert_sync_batchnorm(model)`` makes them what the paper trained with.
    """

    def __init__(self, inplanes: int, embed_dim: int) -> None:
        super().__init__()
        self.stem = _Layers(
            *_conv_bn_relu(3, inplanes, stride=2),
            *_conv_bn_relu(inplanes, inplanes),
            *_conv_bn_relu(inplanes, inplanes),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.conv2 = _Layers(*_conv_bn_relu(inplanes, 2 * inplanes, stride=2))
        self.conv3 = _Layers(*_conv_bn_relu(2 * inplanes, 4 * inplanes, stride=2))
        self.conv4 = _Layers(*_conv_bn_relu(4 * inplanes, 4 * inplanes, stride=2))
        self.fc1 = init_conv(nn.Conv2d(inplanes, embed_dim, 1))
        self.fc2 = init_conv(nn.Conv2d(2 * inplanes, embed_dim, 1))
        self.fc3 = init_conv(nn.Conv2d(4 * inplanes, embed_dim, 1))
        self.fc4 = init_conv(nn.Conv2d(4 * inplanes, embed_dim, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        c1 = self.stem(for_batch_norm(x))
        c2 = self.conv2(c1)
        c3 = self.conv3(c2)
        c4 = self.conv4(c3)
        return c1, project(self.fc2, c2), project(self.fc3, c3), project(self.fc4, c4)


class _Layers(nn.Sequential):
    """The same, with each batch norm and the ReLU after it in one pass over memory each way where a GPU's kernels can.

    The modules are looked at in every call: others may have taken their places, or hooks have been set.
    """

    def forward(self, x: Tensor) -> Tensor:
        layers = list(self)[::-1]
        while layers:
            layer = layers.pop()
            if type(layer) is nn.BatchNorm2d and layers and type(layers[-1]) is nn.ReLU and not has_hooks(layers[-1]):
                layers.pop()
                x = batch_norm_act(x, layer, relu=True)
            else:
                x = layer(x)
        return x


def project(conv: nn.Conv2d, x: Tensor, more_bias: Tensor | None = None) -> Tensor:
    """A 1x1 convolution as a product: channels-last in and out, the weight's gradient in its own strides for DDP.

    One that has hooks, or something else in its place, is called.
    """
    if not is_plain(conv, nn.Conv2d):
        projected = conv(x)
        return projected if more_bias is None else projected + more_bias.to(projected.dtype)[:, None, None]
    pixels = x.permute(0, 2, 3, 1)
    bias = conv.bias if conv.bias is None or more_bias is None else conv.bias + more_bias
    projected = F.linear(pixels.flatten(0, 2), conv.weight.flatten(1), bias)
    return projected.view(*pixels.shape[:3], -1).permute(0, 3, 1, 2)


def _conv_bn_relu(in_channels: int, out_channels: int, stride: int = 1) -> list[nn.Module]:
    return [
        init_conv(nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    ]
