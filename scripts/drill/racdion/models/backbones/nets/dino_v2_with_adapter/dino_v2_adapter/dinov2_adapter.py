"""DINOv2 with an adapter beside it, as a backbone for mmdet."""

import os

import torch
import torch.nn.functional as F
from mmdet.models.builder import BACKBONES
from torch import nn

from ..dino_v2.model.vision_transformer import DinoVisionTransformer
from .adapter_modules import CrossAttention, SpatialPriorModule

WEIGHTS = ("weight", "pretrain", os.path.expanduser("~/.cache/dinov2"))


@BACKBONES.register_module()
class DinoAdapter(nn.Module):
    """(B, 3, H, W) -> four maps at 1/4 to 1/32 and the ViT's map at 1/14."""

    def __init__(
        self,
        num_heads=12,
        embed_dim=768,
        depth=12,
        mlp_ratio=4,
        patch_size=14,
        pretrain_size=518,
        pretrained_vit=True,
        freeze_dino=True,
        conv_inplane=64,
        n_points=4,
        deform_num_heads=6,
        deform_ratio=1.0,
        interaction_indexes=((0, 2), (3, 5), (6, 8), (9, 11)),
        **others,
    ):
        super().__init__()
        self.embed_dim, self.patch_size, self.interaction_indexes = embed_dim, patch_size, interaction_indexes
        self.vit = DinoVisionTransformer(pretrain_size, patch_size, embed_dim, depth, num_heads, mlp_ratio)
        if pretrained_vit:
            self.vit.load_state_dict(torch.load(find_weights(), map_location="cpu"))
        self.vit.requires_grad_(not freeze_dino)
        self.spm = SpatialPriorModule(conv_inplane, embed_dim)
        parts = (embed_dim, deform_num_heads, n_points)
        self.injectors = nn.ModuleList(CrossAttention(*parts, 3, deform_ratio) for _ in interaction_indexes)
        self.extractors = nn.ModuleList(CrossAttention(*parts, 1, deform_ratio) for _ in interaction_indexes)
        self.up = nn.ConvTranspose2d(embed_dim, embed_dim, 2, 2)

    def forward(self, image):
        height, width = image.shape[-2:]
        p = self.patch_size
        image = F.pad(image, (0, -width % p, 0, -height % p))
        maps = self.spm(image)
        shapes = [tuple(m.shape[-2:]) for m in maps]
        pyramid = torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1)
        grid = [(image.shape[-2] // p, image.shape[-1] // p)]
        cls, tokens = self.vit.embed(image)
        for (first, last), inject, extract in zip(self.interaction_indexes, self.injectors, self.extractors):
            tokens = inject(tokens, grid, pyramid, shapes)
            cls, tokens = self.vit.run(cls, tokens, first, last + 1)
            pyramid = extract(pyramid, shapes, tokens, grid)
        levels = [
            level.transpose(1, 2).reshape(len(image), -1, *shape)
            for level, shape in zip(pyramid.split([h * w for h, w in shapes], 1), shapes)
        ]
        vit_map = tokens.transpose(1, 2).reshape(len(image), -1, *grid[0])
        return [self.up(levels[0]), *levels], vit_map


def find_weights(name="dinov2_vitb14_pretrain.pth"):
    for folder in WEIGHTS:
        path = os.path.join(folder, name)
        if os.path.exists(path):
            return path
    raise FileNotFoundError(f"{name} is in none of {', '.join(WEIGHTS)}")
