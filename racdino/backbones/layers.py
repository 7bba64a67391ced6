"""The parts of a DINOv2 transformer block. Attribute names are those of the published state dicts.

Shape letters: B images, N tokens, C channels, M heads. Source: Oquab et al. 2023, arXiv:2304.07193.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeGuard, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from racdino.backbones.attention import attention
from racdino.backbones.frozen import Remembering
from racdino.ops import add_layer_norm
from racdino.ops.autocast import compute_dtype
from racdino.ops.serving import has_hooks, is_compiling, is_plain, served

LAYER_NORM_EPS = 1e-6
Conv = TypeVar("Conv", nn.Conv2d, nn.ConvTranspose2d)


class Linear(Remembering, nn.Linear):
    """torch's, in the dtype of its input; frozen weights are cast once, not in every call as under autocast."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias
        if weight.dtype == bias.dtype == x.dtype:
            return F.linear(x, weight, bias)
        return F.linear(x, self.cast("weight", x.dtype), self.cast("bias", x.dtype))


class LayerNorm(nn.LayerNorm):
    """torch's, in the dtype of its input, where autocast would raise the input and the output to float32."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, eps=LAYER_NORM_EPS)

    def forward(  # type: ignore[override]
        self, x: Tensor, update: Tensor | None = None, with_sum: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        total, normed = add_layer_norm(x, update, self.weight, self.bias, self.eps)
        return (total, normed) if with_sum else normed

    def sum_and_norm(self, x: Tensor, update: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``x + update``, for the residual connection, and its norm: on a GPU in one pass over memory each way.

        Without ``update`` the sum is ``x``, whose two gradients are then added in that pass.
        """
        if is_compiling() or not is_plain(self, LayerNorm):
            total, normed = self(x, update, with_sum=True)
            return total, normed
        return add_layer_norm(x, update, self.weight, self.bias, self.eps)


def linear(in_features: int, out_features: int) -> Linear:
    """A linear layer initialised as DINOv2's: truncated normal weights of 0.02, no bias."""
    layer = Linear(in_features, out_features)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer


def init_conv(layer: Conv) -> Conv:
    """Initialise a convolution as ViT-Adapter's: normal weights by fan-out, no bias."""
    fan_out = math.prod(layer.kernel_size) * layer.out_channels // layer.groups
    nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_out))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def for_batch_norm(x: Tensor) -> Tensor:
    """(B, C, H, W) in the memory that batch norms do best in: channels-last on a GPU, contiguous elsewhere.

    Over channels-last maps torch's CPU kernel adds up one float32 after the other: with 24 x 48 x 128 values to a
    channel the output is off by 1.3e-5 (norm, torch 2.0) instead of 5e-8.
    """
    return x.contiguous(memory_format=torch.channels_last if x.is_cuda else torch.contiguous_format)


class PatchEmbed(Remembering):
    """Image to patch tokens: (B, 3, H, W) to (B, H/patch * W/patch, C), row by row."""

    def __init__(self, patch_size: int, embed_dim: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(3, embed_dim, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        patch = self.patch_size
        height, width = x.shape[-2:]
        if height % patch or width % patch:
            raise ValueError(f"an image of {height}x{width} does not divide into patches of {patch}x{patch} pixels")
        if not is_plain(self.proj, nn.Conv2d):
            return self.proj(x).flatten(2).transpose(1, 2)
        # Patches do not overlap, so the convolution is one product.
        x = x.to(compute_dtype(x))
        spare = _spare(x, patch)
        assert self.proj.bias is not None
        weight, bias = self.remembered(
            (x.dtype, spare),
            (self.proj.weight, self.proj.bias),
            lambda weight, bias: (_padded(weight, spare).flatten(1).to(x.dtype), bias.to(x.dtype)),
        )
        pixels = x.unflatten(2, (-1, patch)).unflatten(4, (-1, patch)).permute(0, 2, 4, 1, 3, 5)
        return F.linear(_padded(pixels, spare).flatten(3).flatten(1, 2), weight, bias)


def _spare(x: Tensor, patch: int) -> int:
    """Columns of zeros beside each patch: a GPU's product of 16-bit numbers took 80 us with them, 262 without.

    48 images on an H200. 14 x 14 pixels are 1176 bytes, and its fast kernels read rows whose bytes 16 divides.
    """
    return -patch % 8 if x.is_cuda and x.element_size() == 2 else 0


def _padded(x: Tensor, spare: int) -> Tensor:
    return F.pad(x, (0, spare)) if spare else x


class Attention(nn.Module):
    """Multi-head self-attention, (B, N, C) to (B, N, C)."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"embed_dim {dim} does not divide by num_heads {num_heads}")
        self.num_heads = num_heads
        self.qkv = linear(dim, dim * 3)
        self.proj = linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(self.before_last(x))

    def before_last(self, x: Tensor) -> Tensor:
        """What the last layer, the projection, is given."""
        query, key, value = _of_heads(self.qkv(x), self.num_heads)
        return attention(query, key, value).transpose(1, 2).flatten(2)

    def last(self) -> Linear:  # as a property it would double the time of a compiled model's guards
        return self.proj


def _of_heads(qkv: Tensor, num_heads: int) -> tuple[Tensor, ...]:
    """(B, N, 3 * C) to three of (B, M, N, C / M), the same memory."""
    if not qkv.requires_grad:
        return qkv.unflatten(-1, (3, num_heads, -1)).transpose(1, 3).unbind(2)
    # More steps for the host, but the gradients are then put side by side in whole rows: taken apart as above, that
    # took 9 of 131 ms of kernels in the adapter's training step with 48 images (H200).
    return tuple(part.unflatten(-1, (num_heads, -1)).transpose(1, 2) for part in qkv.chunk(3, dim=-1))


class Mlp(nn.Module):
    """Linear, GELU, Linear."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = linear(dim, hidden_dim)
        self.fc2 = linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.before_last(x))

    def before_last(self, x: Tensor) -> Tensor:
        return F.gelu(self.fc1(x))

    def last(self) -> Linear:
        return self.fc2


class SwiGLU(nn.Module):
    """Gated MLP of ViT-g, w3(silu(a) * b) with (a, b) = w12(x); two thirds of ``hidden_dim``, rounded up to 8.

    Source: Shazeer 2020, arXiv:2002.05202.
    """

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        hidden_dim = (int(hidden_dim * 2 / 3) + 7) // 8 * 8
        self.w12 = linear(dim, 2 * hidden_dim)
        self.w3 = linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.w3(self.before_last(x))

    def before_last(self, x: Tensor) -> Tensor:
        gate, content = self.w12(x).chunk(2, dim=-1)
        return F.silu(gate) * content

    def last(self) -> Linear:
        return self.w3


class LayerScale(Remembering):
    """A learned factor per channel. Source: Touvron et al. 2021, arXiv:2103.17239."""

    def __init__(self, dim: int, init_value: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), init_value))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.cast("gamma", x.dtype)

    def terms(self, x: Tensor, layer: nn.Module, residual: Tensor) -> tuple[Tensor, Tensor | None]:
        """residual + gamma * layer(x) as two terms of that sum, or all of it and None.

        Two where gamma and the layer are frozen, with the two multiplied once: unless someone listens to one of them,
        or has put something else in its place (LoRA, say).
        """
        if has_hooks(self):
            return residual, self(layer(x))
        dtype = residual.dtype
        if not is_compiling() and _ends_plainly(layer):
            last = layer.last()
            product = self.if_frozen(
                dtype,
                (last.weight, last.bias, self.gamma),
                lambda *factors: tuple(x.to(dtype) for x in _scaled(*factors)),
            )
            if product is not None:
                return residual, F.linear(layer.before_last(x), *product)
        return torch.addcmul(residual, layer(x), self.cast("gamma", dtype)), None


def _ends_plainly(layer: nn.Module) -> TypeGuard[Attention | Mlp | SwiGLU]:
    """Whether ``layer`` is one of ours, whose last step may be taken for it."""
    kind = type(layer)
    if not (kind is Attention or kind is Mlp or kind is SwiGLU):
        return False
    return is_plain(layer, kind) and is_plain(cast("Attention | Mlp | SwiGLU", layer).last(), Linear)


def _scaled(weight: Tensor, bias: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
    return weight * gamma[:, None], bias * gamma


class Add(nn.Identity):
    """What takes the place of `LayerScale` in a block without."""

    def terms(self, x: Tensor, layer: nn.Module, residual: Tensor) -> tuple[Tensor, Tensor]:
        return residual, layer(x)


FFN_LAYERS: dict[str, type[Mlp] | type[SwiGLU]] = {"mlp": Mlp, "swiglu": SwiGLU, "swiglufused": SwiGLU}


class Block(nn.Module):
    """Pre-norm transformer block: x + ls1(attn(norm1(x))), then x + ls2(mlp(norm2(x)))."""

    def __init__(
        self, dim: int, num_heads: int, mlp_ratio: float, init_values: float | None, ffn_layer: str = "mlp"
    ) -> None:
        super().__init__()
        if ffn_layer not in FFN_LAYERS:
            raise ValueError(f"there is no ffn_layer {ffn_layer!r}; there are {', '.join(FFN_LAYERS)}")
        self.norm1 = LayerNorm(dim)
        self.attn = Attention(dim, num_heads)
        self.ls1 = LayerScale(dim, init_values) if init_values else Add()
        self.norm2 = LayerNorm(dim)
        self.mlp = FFN_LAYERS[ffn_layer](dim, int(dim * mlp_ratio))
        self.ls2 = LayerScale(dim, init_values) if init_values else Add()

    def forward(self, x: Tensor) -> Tensor:
        return summed(*self.terms(x))

    def terms(self, x: Tensor, update: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """What `forward` makes of ``x + update``, as two terms of a sum or all of it and None."""
        x, normed = self.norm1.sum_and_norm(x, update)
        x, normed = self.norm2.sum_and_norm(*self.ls1.terms(normed, self.attn, x))
        return self.ls2.terms(normed, self.mlp, x)


def through_blocks(blocks: Iterable[nn.Module], x: Tensor) -> tuple[Tensor, Tensor | None]:
    """``x`` after all blocks, as two terms of a sum or all of it and None.

    On a GPU the sum at the end of a block is left to the norm of the next, which adds in its pass. A block that is not
    plain, because someone listens to it for example, is called.
    """
    update, in_norms = None, served(x)
    for block in blocks:
        if in_norms and is_plain(block, Block):
            x, update = block.terms(x, update)
        else:
            x, update = block(summed(x, update)), None
    return x, update


def summed(x: Tensor, update: Tensor | None) -> Tensor:
    return x if update is None else x + update
