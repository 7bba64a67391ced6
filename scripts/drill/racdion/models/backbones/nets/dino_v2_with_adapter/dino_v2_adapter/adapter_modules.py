"""What stands beside the ViT: a convolutional pyramid, and the attention that carries it into the tokens and back."""

import torch
import torch.nn.functional as F
from torch import nn

from ...ops.modules import MSDeformAttn


def reference_points(shapes, device):
    """(1, sum of H*W, 1, 2): the centres of each level's pixels as (x, y) in [0, 1]."""
    levels = []
    for height, width in shapes:
        y = (torch.arange(height, device=device) + 0.5) / height
        x = (torch.arange(width, device=device) + 0.5) / width
        levels.append(torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).flip(-1).reshape(-1, 2))
    return torch.cat(levels)[None, :, None]


class SpatialPriorModule(nn.Module):
    """(B, 3, H, W) -> three maps at 1/8, 1/16 and 1/32, ``embed_dim`` wide."""

    def __init__(self, inplanes, embed_dim):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, inplanes, 7, 4, 3), nn.ReLU())
        self.stages = nn.ModuleList(nn.Conv2d(inplanes, inplanes, 3, 2, 1) for _ in range(3))
        self.project = nn.ModuleList(nn.Conv2d(inplanes, embed_dim, 1) for _ in range(3))

    def forward(self, image):
        x, maps = self.stem(image), []
        for stage, project in zip(self.stages, self.project):
            x = F.relu(stage(x))
            maps.append(project(x))
        return maps


class CrossAttention(nn.Module):
    """Deformable attention from the tokens of one side to the levels of the other, added to the query."""

    def __init__(self, embed_dim, num_heads, n_points, n_levels, ratio):
        super().__init__()
        self.query_norm, self.feat_norm = nn.LayerNorm(embed_dim), nn.LayerNorm(embed_dim)
        self.attn = MSDeformAttn(embed_dim, n_levels, num_heads, n_points, ratio)

    def forward(self, query, query_shapes, feat, feat_shapes):
        shapes = torch.tensor(feat_shapes, device=query.device)
        start = torch.cat([shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]])
        points = reference_points(query_shapes, query.device).expand(len(query), -1, len(feat_shapes), -1)
        return query + self.attn(self.query_norm(query), points, self.feat_norm(feat), shapes, start)
