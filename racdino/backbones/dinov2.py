"""DINOv2's vision transformer, plain torch, with the state-dict names of the published weights.

Sources: Oquab et al. 2023, arXiv:2304.07193; registers: Darcet et al. 2023, arXiv:2309.16588;
github.com/facebookresearch/dinov2 (Apache-2.0), whose outputs these are.

Shape letters: B images, H x W pixels, N = H/patch * W/patch patches, R registers, C channels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from racdino.backbones.frozen import Remembering
from racdino.backbones.frozen_positions import frozen_positions
from racdino.backbones.layers import Block, LayerNorm, PatchEmbed, summed, through_blocks
from racdino.backbones.position import resize_positions
from racdino.ops.serving import is_compiling
from racdino.weights import Architecture, existing_file, find, published_dinov2
from racdino.weights.loading import load_into


class DinoVisionTransformer(Remembering):
    """DINOv2 trunk.

    Args:
        img_size (int): side in pixels of the images whose grid the position embeddings were trained on.
        patch_size (int): side of a patch in pixels.
        embed_dim (int): C. depth (int): blocks. num_heads (int): heads per block. mlp_ratio (float): hidden width / C.
        init_values (float | None): initial LayerScale; None or 0 for blocks without.
        num_register_tokens (int): R, tokens between the class token and the patches, without position embedding.
        interpolate_antialias (bool), interpolate_offset (float): see `resize_position_grid`.
        ffn_layer (str): "mlp", or "swiglufused" (also "swiglu") as ViT-g.
    """

    mask_token: nn.Parameter | None

    def __init__(
        self,
        img_size: int = 224,
        patch_size: int = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        init_values: float | None = None,
        num_register_tokens: int = 0,
        interpolate_antialias: bool = False,
        interpolate_offset: float = 0.1,
        ffn_layer: str = "mlp",
    ) -> None:
        super().__init__()
        if img_size % patch_size:
            raise ValueError(f"img_size {img_size} does not divide by patch_size {patch_size}")
        self.patch_size = patch_size
        self.embed_dim = self.num_features = embed_dim
        self.num_register_tokens = num_register_tokens
        self.interpolate_antialias = interpolate_antialias
        self.interpolate_offset = interpolate_offset

        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (img_size // patch_size) ** 2, embed_dim))
        if num_register_tokens:
            self.register_tokens = nn.Parameter(torch.zeros(1, num_register_tokens, embed_dim))
        self.mask_token = nn.Parameter(torch.zeros(1, embed_dim))
        self.patch_embed = PatchEmbed(patch_size, embed_dim)
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, mlp_ratio, init_values, ffn_layer) for _ in range(depth)
        )
        self.norm = LayerNorm(embed_dim)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        if num_register_tokens:
            nn.init.normal_(self.register_tokens, std=1e-6)

    @property
    def num_prefix_tokens(self) -> int:
        """Tokens before the patches: the class token and the registers."""
        return 1 + self.num_register_tokens

    def position_embedding(self, height: int, width: int, offset: float, antialias: bool) -> Tensor:
        """(1, N, C) for a grid of height x width patches, the class token's own embedding left out.

        A frozen table is resized once per size, see `Remembering`; do not write to the result.
        """
        how = (height, width, offset, antialias)
        if is_compiling() and not self.pos_embed.requires_grad:
            return frozen_positions(self.pos_embed, *how)
        return self.remembered(how, self.pos_embed, lambda positions: resize_positions(positions, *how))

    def prefix_tokens(self, batch: int) -> Tensor:
        """(B, 1 + R, C): the class token with its position embedding, then the registers."""
        class_token = (self.cls_token + self.pos_embed[:, :1]).expand(batch, -1, -1)
        if not self.num_register_tokens:
            return class_token
        return torch.cat((class_token, self.register_tokens.expand(batch, -1, -1)), dim=1)

    def prepare_tokens_with_masks(self, x: Tensor, masks: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) to (B, 1 + R + N, C); patches where ``masks`` (B, N) is True become the mask token."""
        height, width = (side // self.patch_size for side in x.shape[-2:])
        patches = self.patch_embed(x)
        if masks is not None:
            if self.mask_token is None:
                raise ValueError("masks were given to a model without a mask token")
            patches = torch.where(masks[..., None], self.mask_token.to(patches.dtype), patches)
        patches = patches + self.position_embedding(height, width, self.interpolate_offset, self.interpolate_antialias)
        return torch.cat((self.prefix_tokens(len(x)), patches), dim=1)

    def forward_features(self, x: Tensor, masks: Tensor | None = None) -> dict[str, Tensor | None]:
        """Tokens after the last block.

        Args:
            x: (B, 3, H, W) normalised images, H and W multiples of the patch size. masks: (B, N) bool.
        Returns:
            ``x_norm_clstoken`` (B, C), ``x_norm_regtokens`` (B, R, C), ``x_norm_patchtokens`` (B, N, C): after the
            final norm; ``x_prenorm`` (B, 1 + R + N, C): before it; ``masks``: as given.
        """
        x = self.prepare_tokens_with_masks(x, masks)
        x = summed(*through_blocks(self.blocks, x))
        normed = self.norm(x)
        return {
            "x_norm_clstoken": normed[:, 0],
            "x_norm_regtokens": normed[:, 1 : self.num_prefix_tokens],
            "x_norm_patchtokens": normed[:, self.num_prefix_tokens :],
            "x_prenorm": x,
            "masks": masks,
        }

    def get_intermediate_layers(
        self,
        x: Tensor,
        n: int | Sequence[int] = 1,
        reshape: bool = False,
        return_class_token: bool = False,
        norm: bool = True,
    ) -> tuple[Tensor, ...] | tuple[tuple[Tensor, Tensor], ...]:
        """Patch tokens after several blocks, in the order of the blocks.

        Args:
            x: as in `forward_features`. n: how many of the last blocks, or which ones.
            reshape: (B, C, H/patch, W/patch) maps instead of (B, N, C) tokens.
            return_class_token: pairs of (patch tokens, class token (B, C)). norm: apply the final norm to each.
        """
        height, width = (side // self.patch_size for side in x.shape[-2:])
        depth = len(self.blocks)
        wanted = range(depth - n, depth) if isinstance(n, int) else n
        if not wanted or not all(0 <= index < depth for index in wanted):
            raise ValueError(f"n={n} does not name blocks of the {depth} there are")
        x = self.prepare_tokens_with_masks(x)
        outputs = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in wanted:
                outputs.append(self.norm(x) if norm else x)
        class_tokens = [output[:, 0] for output in outputs]
        patches = [output[:, self.num_prefix_tokens :] for output in outputs]
        if reshape:
            patches = [tokens.transpose(1, 2).unflatten(2, (height, width)).contiguous() for tokens in patches]
        if return_class_token:
            return tuple(zip(patches, class_tokens, strict=True))
        return tuple(patches)

    def forward(
        self, x: Tensor, masks: Tensor | None = None, is_training: bool = False
    ) -> Tensor | dict[str, Tensor | None]:
        """The normed class token (B, C), or with ``is_training`` all of `forward_features`."""
        features = self.forward_features(x, masks)
        return features if is_training else features["x_norm_clstoken"]  # type: ignore[return-value]


def build(architecture: Architecture) -> DinoVisionTransformer:
    """A randomly initialised model of one published architecture."""
    registers = architecture.num_register_tokens
    return DinoVisionTransformer(
        img_size=518,
        patch_size=14,
        embed_dim=architecture.embed_dim,
        depth=architecture.depth,
        num_heads=architecture.num_heads,
        init_values=1.0,
        num_register_tokens=registers,
        interpolate_antialias=registers > 0,
        interpolate_offset=0.0 if registers else 0.1,
        ffn_layer=architecture.ffn_layer,
    )


def _published(name: str, pretrained: bool | str | os.PathLike[str]) -> DinoVisionTransformer:
    entry = published_dinov2(name)
    if not pretrained:
        return build(entry.architecture)
    weights = find(entry) if pretrained is True else existing_file(pretrained)
    model = build(entry.architecture)
    load_into(model, weights)
    return model


def dinov2_vits14(*, pretrained: bool | str | os.PathLike[str] = False) -> DinoVisionTransformer:
    """ViT-S/14, 21 M parameters. ``pretrained``: True to look for the published weights, or a file that holds them."""
    return _published("dinov2_vits14", pretrained)


def dinov2_vitb14(*, pretrained: bool | str | os.PathLike[str] = False) -> DinoVisionTransformer:
    """ViT-B/14, 86 M parameters. ``pretrained``: see `dinov2_vits14`."""
    return _published("dinov2_vitb14", pretrained)


def dinov2_vitl14(*, pretrained: bool | str | os.PathLike[str] = False) -> DinoVisionTransformer:
    """ViT-L/14, 300 M parameters. ``pretrained``: see `dinov2_vits14`."""
    return _published("dinov2_vitl14", pretrained)


def dinov2_vitg14(*, pretrained: bool | str | os.PathLike[str] = False) -> DinoVisionTransformer:
    """ViT-g/14, 1.1 G parameters. ``pretrained``: see `dinov2_vits14`."""
    return _published("dinov2_vitg14", pretrained)


def dinov2_vits14_reg(*, pretrained: bool | str | os.PathLike[str] = False) -> DinoVisionTransformer:
    """ViT-S/14 with 4 registers. ``pretrained``: see `dinov2_vits14`."""
    return _published("dinov2_vits14_reg", pretrained)


def dinov2_vitb14_reg(*, pretrained: bool | str | os.PathLike[str] = False) -> DinoVisionTransformer:
    """ViT-B/14 with 4 registers. ``pretrained``: see `dinov2_vits14`."""
    return _published("dinov2_vitb14_reg", pretrained)


def dinov2_vitl14_reg(*, pretrained: bool | str | os.PathLike[str] = False) -> DinoVisionTransformer:
    """ViT-L/14 with 4 registers. ``pretrained``: see `dinov2_vits14`."""
    return _published("dinov2_vitl14_reg", pretrained)


def dinov2_vitg14_reg(*, pretrained: bool | str | os.PathLike[str] = False) -> DinoVisionTransformer:
    """ViT-g/14 with 4 registers. ``pretrained``: see `dinov2_vits14`."""
    return _published("dinov2_vitg14_reg", pretrained)
