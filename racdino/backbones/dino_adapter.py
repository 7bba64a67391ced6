"""DinoAdapter: DINOv2 with ViT-Adapter, four feature maps for dense prediction out of a plain transformer.

Sources: Chen et al. 2023, arXiv:2205.08534 (ViT-Adapter); Oquab et al. 2023, arXiv:2304.07193 (DINOv2);
Schramm et al. 2024, arXiv:2403.11761 (BEVCar, which put the two together for surround cameras).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from racdino.backbones.crop import crop
from racdino.backbones.dinov2 import DinoVisionTransformer
from racdino.backbones.finest_map import add_doubled
from racdino.backbones.interaction import InteractionBlock, Sampling
from racdino.backbones.layers import init_conv
from racdino.backbones.spatial_prior import SpatialPriorModule, project
from racdino.ops import batch_norm_act
from racdino.weights import Architecture, existing_file, find, published_for
from racdino.weights.loading import load_into

_SMALLEST = 32  # pixels: the coarsest map has a stride of 32


class DinoAdapter(DinoVisionTransformer):
    """DINOv2 trunk, spatial prior and interaction blocks.

    Args:
        num_heads (int): heads of the transformer. pretrain_size (int): side in pixels of its pretraining images.
        pretrained_vit (bool): load the published DINOv2 weights of this architecture, found on this machine (see
            `racdino.weights.search`); False leaves a random initialisation. Nothing is downloaded.
        patch_size (int), embed_dim (int), depth (int), mlp_ratio (float): the transformer's.
        conv_inplane (int): channels of the spatial prior's first stage.
        n_points (int), deform_num_heads (int), deform_ratio (float): points and heads of the deformable attention, and
            width of its values / embed_dim.
        init_values (float): initial weight of what is injected into the transformer.
        interaction_indexes: first and last block of each group, in order; together all blocks.
        with_cffn (bool), cffn_ratio (float): convolutional feed-forward in the extractors; hidden width / embed_dim.
        add_vit_feature (bool): add the transformer's map after each of the (then four) groups to the output maps.
        pretrained: a file of DINOv2 weights to take instead of searching; needs ``pretrained_vit``.
        use_extra_extractor (bool): two more extractors after the last group.
        with_cp (bool): trade time for memory, by computing activations again in the backward pass.
        freeze_dino (bool): train the adapter only; the transformer then stays in eval mode.
        num_register_tokens (int): 4 for the register models. ffn_layer (str): "swiglufused" for ViT-g.

    Attributes have the state-dict names of ViT-Adapter and DINOv2; ``mask_token`` is None and thus in no state dict.
    The final norm is kept for its name but not used and not trained, so DDP finds no unused parameter.
    ``channels_last``, False until the owner sets it, is the memory format of the maps: where plain convolutions follow
    them, channels-last maps would give 1x1 weights gradients of other strides, at which DDP warns.
    """

    channels_last = False

    def __init__(
        self,
        num_heads: int = 12,
        pretrain_size: int = 518,
        pretrained_vit: bool = True,
        patch_size: int = 14,
        embed_dim: int = 768,
        depth: int = 12,
        mlp_ratio: float = 4,
        conv_inplane: int = 64,
        n_points: int = 4,
        deform_num_heads: int = 6,
        init_values: float = 0.0,
        interaction_indexes: Sequence[Sequence[int]] = ((0, 2), (3, 5), (6, 8), (9, 11)),
        with_cffn: bool = True,
        cffn_ratio: float = 0.25,
        deform_ratio: float = 1.0,
        add_vit_feature: bool = False,
        pretrained: str | os.PathLike[str] | None = None,
        use_extra_extractor: bool = True,
        with_cp: bool = False,
        freeze_dino: bool = True,
        num_register_tokens: int = 0,
        ffn_layer: str = "mlp",
    ) -> None:
        groups = _check_groups(interaction_indexes, depth, add_vit_feature)
        _check_heads(embed_dim, deform_num_heads, deform_ratio)
        if pretrained is not None and not pretrained_vit:
            raise ValueError(
                f"pretrained={str(pretrained)!r} was given together with pretrained_vit=False: drop one of them"
            )
        weights: Path | None = None
        if pretrained_vit:  # looked for first: a missing file should not cost the time to build the model
            architecture = Architecture(embed_dim, depth, num_heads, ffn_layer, num_register_tokens)
            weights = find(published_for(architecture)) if pretrained is None else existing_file(pretrained)
        super().__init__(
            img_size=pretrain_size,
            patch_size=patch_size,
            embed_dim=embed_dim,
            depth=depth,
            num_heads=num_heads,
            mlp_ratio=mlp_ratio,
            init_values=1.0,
            num_register_tokens=num_register_tokens,
            ffn_layer=ffn_layer,
        )
        if weights is not None:  # before the adapter's own parameters exist: every key must fit
            load_into(self, weights)
        self.mask_token = None
        self.freeze_dino = freeze_dino
        self.add_vit_feature = add_vit_feature
        self.interaction_indexes = groups
        self.requires_grad_(not freeze_dino)
        self.norm.requires_grad_(False)

        self.level_embed = nn.Parameter(torch.randn(3, embed_dim))
        self.spm = SpatialPriorModule(conv_inplane, embed_dim)
        self.interactions = nn.ModuleList(
            InteractionBlock(
                dim=embed_dim,
                num_heads=deform_num_heads,
                n_points=n_points,
                init_values=init_values,
                deform_ratio=deform_ratio,
                with_cffn=with_cffn,
                cffn_ratio=cffn_ratio,
                extra_extractors=2 if use_extra_extractor and group == groups[-1] else 0,
                with_cp=with_cp,
            )
            for group in groups
        )
        self.up = init_conv(nn.ConvTranspose2d(embed_dim, embed_dim, 2, stride=2))
        self.norm1 = nn.BatchNorm2d(embed_dim)
        self.norm2 = nn.BatchNorm2d(embed_dim)
        self.norm3 = nn.BatchNorm2d(embed_dim)
        self.norm4 = nn.BatchNorm2d(embed_dim)

    def train(self, mode: bool = True) -> DinoAdapter:
        super().train(mode)
        if mode and self.freeze_dino:
            for part in (self.patch_embed, self.blocks, self.norm):
                part.eval()
        return self

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:  # type: ignore[override]
        """Feature maps of a batch of images.

        Args:
            x: (B, 3, H, W) normalised images of any size from 32x32. Inside they are padded with zeros, right and
                below, to multiples of the patch size (256x704 to 266x714), and what the padding gave is cut off again.
        Returns:
            [f1, f2, f3, f4]: (B, C, H//4, W//4), (.., H//8, W//8), (.., H//16, W//16), (.., H//32, W//32), after a
            batch norm each; and the transformer's last map before its final norm, (B, C, H//patch, W//patch).
        """
        height, width = x.shape[-2:]
        if min(height, width) < _SMALLEST:
            raise ValueError(
                f"an image of {height}x{width} is smaller than the {_SMALLEST} pixels of the coarsest stride"
            )
        patch = self.patch_size
        x = F.pad(x, (0, -width % patch, 0, -height % patch))
        grid = (x.shape[2] // patch, x.shape[3] // patch)

        c1, *levels = self.spm(x)
        sizes = [(level.shape[2], level.shape[3]) for level in levels]
        c = torch.cat(
            [
                level.flatten(2).transpose(1, 2) + embed.to(level.dtype)
                for level, embed in zip(levels, self.level_embed, strict=True)
            ],
            dim=1,
        )
        patches = self.patch_embed(x)
        # Sizes map to sizes here, without DINOv2's offset or antialiasing: so the adapters in use were trained.
        patches, dtype = patches + self.position_embedding(*grid, offset=0.0, antialias=False), patches.dtype
        # Both streams of tokens keep the dtype of the first product: under autocast the short one, with every norm and
        # sum. In float32 they would double the memory traffic and gain less than the products' own rounding loses.
        tokens = torch.cat((self.prefix_tokens(len(x)).to(dtype), patches.to(dtype)), dim=1)
        c, vit_maps = self._interact(tokens, c, grid, sizes)

        levels = [level.contiguous() for level in c.split([h * w for h, w in sizes], dim=1)]
        c2, c3, c4 = (_to_map(level, size) for level, size in zip(levels, sizes, strict=True))
        maps = [self._finest(c1, c2), c2, c3, c4]
        if self.add_vit_feature:
            maps = [level + _resized(vit_map, level) for level, vit_map in zip(maps, vit_maps, strict=True)]
        norms = (self.norm1, self.norm2, self.norm3, self.norm4)
        memory_format = torch.channels_last if self.channels_last else torch.contiguous_format
        outputs = [
            crop(batch_norm_act(level, norm, relu=False), height // stride, width // stride, memory_format)
            for norm, level, stride in zip(norms, maps, (4, 8, 16, 32), strict=True)
        ]
        return outputs, crop(vit_maps[-1], height // patch, width // patch, memory_format)

    def _finest(self, c1: Tensor, c2: Tensor) -> Tensor:
        """``fc1(c1) + resize(up(c2))``, (B, C, H, W) like all maps here in channels-last memory."""
        projected = project(self.spm.fc1, c1, self.up.bias)  # which resizing would leave as it is
        finest = add_doubled(c2.permute(0, 2, 3, 1), self.up.weight, projected.permute(0, 2, 3, 1))
        return finest.permute(0, 3, 1, 2)

    def _interact(
        self, x: Tensor, c: Tensor, grid: tuple[int, int], sizes: list[tuple[int, int]]
    ) -> tuple[Tensor, list[Tensor]]:
        """The pyramid's tokens after all groups, and the transformer's maps after each, or only the last."""
        prefix = self.num_prefix_tokens
        inject, extract = self.constant(
            (grid, *sizes),
            x.device,
            lambda: (
                Sampling.between([grid], sizes, x.device, query_prefix=prefix),
                Sampling.between(sizes, [grid], x.device, value_prefix=prefix),
            ),
        )
        blocks = list(self.blocks)
        tokens = []
        for (first, last), interaction in zip(self.interaction_indexes, self.interactions, strict=True):
            x, c = interaction(x, c, prefix, blocks[first : last + 1], inject, extract, sizes)
            tokens.append(x)
        wanted = tokens if self.add_vit_feature else tokens[-1:]
        return c, [_to_map(x[:, prefix:], grid) for x in wanted]


def _to_map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, H*W, C) to (B, C, H, W), the same memory."""
    return tokens.unflatten(1, size).permute(0, 3, 1, 2)


def _resized(x: Tensor, like: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):  # which would raise it to float32
        return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


def _check_groups(indexes: Sequence[Sequence[int]], depth: int, add_vit_feature: bool) -> list[tuple[int, int]]:
    groups = [(int(group[0]), int(group[-1])) for group in indexes if len(group)]
    covered = [block for first, last in groups for block in range(first, last + 1)]
    if len(groups) != len(indexes) or covered != list(range(depth)) or any(first > last for first, last in groups):
        raise ValueError(
            f"interaction_indexes {[list(group) for group in indexes]} must name the first and last block of each "
            f"group, in order, and together all blocks from 0 to {depth - 1}"
        )
    if add_vit_feature and len(groups) != 4:
        raise ValueError(
            f"add_vit_feature adds one map to each of four outputs, but interaction_indexes has {len(groups)} groups"
        )
    return groups


def _check_heads(embed_dim: int, deform_num_heads: int, deform_ratio: float) -> None:
    if embed_dim % deform_num_heads or int(embed_dim * deform_ratio) % deform_num_heads:
        fitting = [
            heads for heads in range(4, 33) if embed_dim % heads == 0 and int(embed_dim * deform_ratio) % heads == 0
        ]
        raise ValueError(
            f"embed_dim {embed_dim} (times deform_ratio {deform_ratio}) does not divide by deform_num_heads "
            f"{deform_num_heads}; {', '.join(map(str, fitting)) or 'no number from 4 to 32'} would do"
        )
