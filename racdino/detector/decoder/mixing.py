"""Adaptive mixing: each query makes the weights that mix its samples' channels, then its points."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AdaptiveMixing(nn.Module):
    """Two small products per group with matrices out of the query, each normalised and rectified; plus residual.

    Args:
        embed_dims: width of queries; each group mixes embed_dims / num_groups channels.
        in_points: samples of a query in a group.
        out_points: rows after mixing.

    Source: AdaMixer, Gao et al. 2022, arXiv:2203.16507, section 3.3; SparseBEV, arXiv:2308.09244, section 3.4.
    """

    def __init__(self, embed_dims: int, in_points: int, num_groups: int = 4, out_points: int = 128) -> None:
        super().__init__()
        self.num_groups = num_groups
        self.in_points = in_points
        self.out_points = out_points
        self.channels = embed_dims // num_groups
        generated = self.channels**2 + in_points * out_points  # numbers per group: first M, then S
        self.parameter_generator = nn.Linear(embed_dims, num_groups * generated)
        self.out_proj = nn.Linear(num_groups * out_points * self.channels, embed_dims)
        nn.init.zeros_(self.parameter_generator.weight)

    def forward(self, samples: Tensor, query: Tensor) -> Tensor:
        """(B, Q, groups, in_points, channels) samples and (B, Q, C) queries to (B, Q, C)."""
        B, Q, G, P, C = samples.shape
        if (self.num_groups, self.in_points, self.channels) != (G, P, C):
            raise ValueError(
                f"Samples are (groups, points, channels) = {(G, P, C)}, "
                f"expected {(self.num_groups, self.in_points, self.channels)}."
            )
        generated = self.parameter_generator(query).view(B * Q * G, -1)
        channel_mixing, point_mixing = generated.split([C * C, self.out_points * P], dim=1)
        channel_mixing, point_mixing = channel_mixing.view(-1, C, C), point_mixing.view(-1, self.out_points, P)
        mixed = _normalised(torch.bmm(samples.reshape(B * Q * G, P, C), channel_mixing))
        mixed = _normalised(torch.bmm(point_mixing, mixed))
        return query + self.out_proj(mixed.view(B, Q, -1))


def _normalised(x: Tensor) -> Tensor:
    return F.relu(F.layer_norm(x, x.shape[-2:]))
