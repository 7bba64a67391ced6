"""ViT-Adapter's exchange between the transformer's tokens and the spatial prior's pyramid.

Source: Chen et al. 2023, arXiv:2205.08534, section 3.4; attributes as in github.com/czczup/ViT-Adapter (Apache-2.0).
Shape letters: B images, N transformer tokens, the first P of them class and register tokens, S tokens of all pyramid
levels together, C channels, L levels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from racdino.backbones.layers import LayerNorm, init_conv, linear, summed, through_blocks
from racdino.ops import MSDeformAttn, depthwise_conv_gelu

Sizes = Sequence[tuple[int, int]]  # (height, width) of each level


@dataclass(frozen=True)
class Sampling:
    """Where one set of tokens looks into the levels of another: the position arguments of `MSDeformAttn`."""

    reference_points: Tensor  # (1, queries, L, 2) as (x, y) in [0, 1]
    spatial_shapes: Tensor  # (L, 2) int64
    level_start_index: Tensor  # (L,) int64

    @staticmethod
    def between(
        queries: Sizes, values: Sizes, device: torch.device, query_prefix: int = 0, value_prefix: int = 0
    ) -> Sampling:
        """Every query token looks at its own place in every level of ``values``.

        Tokens without a place come first: ``query_prefix`` of the queries, which look at the middle, and
        ``value_prefix`` of the values, which nothing looks at.
        """
        middle = torch.full((query_prefix, 2), 0.5, device=device)
        points = torch.cat([middle, *(_centres(height, width, device) for height, width in queries)])
        starts = [value_prefix + sum(h * w for h, w in values[:level]) for level in range(len(values))]
        return Sampling(
            points[None, :, None].expand(-1, -1, len(values), -1),
            _integers([side for size in values for side in size], device).view(-1, 2),
            _integers(starts, device),
        )


def _centres(height: int, width: int, device: torch.device) -> Tensor:
    """(height * width, 2): the centres of a grid's cells, row by row, as (x, y) in [0, 1]."""
    y = (torch.arange(height, device=device) + 0.5) / height
    x = (torch.arange(width, device=device) + 0.5) / width
    return torch.stack((x.repeat(height), y.repeat_interleave(width)), dim=-1)


def _integers(numbers: Sequence[int], device: torch.device) -> Tensor:
    """int64 numbers filled in on the device: copying them there would wait for all its pending work."""
    return torch.stack([torch.full((), number, dtype=torch.int64, device=device) for number in numbers])


class DWConv(nn.Module):
    """Depthwise 3x3 convolution over tokens, level by level, and GELU: (B, S, C) to (B, S, C)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = init_conv(nn.Conv2d(dim, dim, 3, padding=1, groups=dim))

    def forward(self, x: Tensor, sizes: Sizes) -> Tensor:
        conv = self.dwconv
        assert conv.bias is not None
        return depthwise_conv_gelu(x, conv.weight, conv.bias, sizes)


class ConvFFN(nn.Module):
    """Linear, depthwise convolution, GELU, Linear: (B, S, C) to (B, S, C)."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = linear(dim, hidden_dim)
        self.dwconv = DWConv(hidden_dim)
        self.fc2 = linear(hidden_dim, dim)

    def forward(self, x: Tensor, sizes: Sizes) -> Tensor:
        return self.fc2(self.dwconv(self.fc1(x), sizes))


class Injector(nn.Module):
    """Brings the pyramid into the transformer: x + gamma * attn(x, pyramid); gamma starts at ``init_values``.

    The first ``prefix`` tokens take nothing: their gamma is zero, which is cheaper than cutting them off and on again.
    """

    def __init__(
        self, dim: int, num_heads: int, n_points: int, n_levels: int, deform_ratio: float, init_values: float
    ) -> None:
        super().__init__()
        self.query_norm = LayerNorm(dim)
        self.feat_norm = LayerNorm(dim)
        self.attn = MSDeformAttn(
            d_model=dim, n_levels=n_levels, n_heads=num_heads, n_points=n_points, ratio=deform_ratio
        )
        self.gamma = nn.Parameter(torch.full((dim,), float(init_values)))

    def forward(self, query: Tensor, feat: Tensor, sampling: Sampling, prefix: int) -> Tensor:
        query, taken = _attend(self, query, feat, sampling)
        gamma = self.gamma.to(query.dtype).expand(query.shape[1] - prefix, -1)
        return torch.addcmul(query, taken, F.pad(gamma, (0, 0, prefix, 0)))


class Extractor(nn.Module):
    """Brings the transformer's tokens back into the pyramid: c + attn(c, x), then the convolutional feed-forward."""

    def __init__(
        self, dim: int, num_heads: int, n_points: int, deform_ratio: float, with_cffn: bool, cffn_ratio: float
    ) -> None:
        super().__init__()
        self.query_norm = LayerNorm(dim)
        self.feat_norm = LayerNorm(dim)
        self.attn = MSDeformAttn(d_model=dim, n_levels=1, n_heads=num_heads, n_points=n_points, ratio=deform_ratio)
        self.with_cffn = with_cffn
        if with_cffn:
            self.ffn = ConvFFN(dim, int(dim * cffn_ratio))
            self.ffn_norm = LayerNorm(dim)

    def forward(self, query: Tensor, feat: Tensor, sampling: Sampling, sizes: Sizes) -> Tensor:
        query, update = _attend(self, query, feat, sampling)
        if self.with_cffn:
            query, normed = self.ffn_norm.sum_and_norm(query, update)
            update = self.ffn(normed, sizes)
        return query + update


def _attend(module: Injector | Extractor, query: Tensor, feat: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """The query, for the residual connection, and what it takes from ``feat``."""
    query, normed = module.query_norm.sum_and_norm(query)
    taken = module.attn(
        normed,
        sampling.reference_points.expand(len(query), -1, -1, -1),
        module.feat_norm(feat),
        sampling.spatial_shapes,
        sampling.level_start_index,
    )
    return query, taken


class InteractionBlock(nn.Module):
    """Inject, run a group of transformer blocks, extract; the last one extracts two more times.

    With ``with_cp`` each of these steps keeps only its input and is computed again in the backward pass.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        n_points: int,
        init_values: float,
        deform_ratio: float,
        with_cffn: bool,
        cffn_ratio: float,
        extra_extractors: int,
        with_cp: bool,
    ) -> None:
        super().__init__()
        self.with_cp = with_cp
        self.injector = Injector(dim, num_heads, n_points, 3, deform_ratio, init_values)
        self.extractor = Extractor(dim, num_heads, n_points, deform_ratio, with_cffn, cffn_ratio)
        self.extra_extractors: nn.ModuleList | None = None
        if extra_extractors:
            self.extra_extractors = nn.ModuleList(
                Extractor(dim, num_heads, n_points, deform_ratio, with_cffn, cffn_ratio)
                for _ in range(extra_extractors)
            )

    def forward(
        self,
        x: Tensor,
        c: Tensor,
        prefix: int,
        blocks: Sequence[nn.Module],
        inject: Sampling,
        extract: Sampling,
        sizes: Sizes,
    ) -> tuple[Tensor, Tensor]:
        """One exchange.

        Args:
            x: (B, N, C) transformer tokens, the first ``prefix`` of them without a place. c: (B, S, C) pyramid tokens.
            blocks: the transformer blocks of this group. inject, extract: where each side looks into the other.
            sizes: the pyramid's levels.
        Returns:
            x and c, same shapes.
        """
        x = self._run(self.injector, x, c, inject, prefix)
        if self.with_cp and torch.is_grad_enabled():
            for block in blocks:
                x = self._run(block, x)
        else:
            x = summed(*through_blocks(blocks, x))
        for extractor in (self.extractor, *(self.extra_extractors or ())):
            c = self._run(extractor, c, x, extract, sizes)
        return x, c

    def _run(self, step: Callable[..., Tensor], *arguments: object) -> Tensor:
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(step, *arguments, use_reentrant=False, preserve_rng_state=False)
        return step(*arguments)
