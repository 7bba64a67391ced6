"""DINOv2's vision transformer; the names of its parameters are those of the published weights."""

import torch
import torch.nn.functional as F
from torch import nn

# The layers live one package up: models/backbones is on nobody's sys.path.
from ..layers import MemEffAttention, Mlp
from ..layers import NestedTensorBlock as Block
from ..layers import PatchEmbed


class DinoVisionTransformer(nn.Module):
    """Tokens of (B, 3, H, W) images whose sides are multiples of ``patch_size``."""

    def __init__(self, img_size, patch_size, embed_dim, depth, num_heads, mlp_ratio):
        super().__init__()
        self.grid = img_size // patch_size
        self.patch_embed = PatchEmbed(patch_size, embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.mask_token = nn.Parameter(torch.zeros(1, embed_dim))
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + self.grid**2, embed_dim) * 0.02)
        self.blocks = nn.ModuleList(
            Block(embed_dim, MemEffAttention(embed_dim, num_heads), Mlp(embed_dim, int(embed_dim * mlp_ratio)))
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)

    def embed(self, image):
        patches = self.patch_embed(image)
        position = self.pos_embed[:, 1:].unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        position = F.interpolate(position, patches.shape[-2:], mode="bicubic", align_corners=False)
        tokens = (patches + position).flatten(2).transpose(1, 2)
        return (self.cls_token + self.pos_embed[:, :1]).expand(len(image), -1, -1), tokens

    def run(self, cls, tokens, first, last):
        x = torch.cat([cls, tokens], 1)
        for block in self.blocks[first:last]:
            x = block(x)
        return x[:, :1], x[:, 1:]
