from torch import nn

from ..functions import MSDeformAttnFunction


class MSDeformAttn(nn.Module):
    def __init__(self, d_model, n_levels, n_heads, n_points, ratio=1.0):
        super().__init__()
        self.im2col_step = 64
        self.n_heads, self.shape = n_heads, (n_heads, n_levels, n_points)
        width = int(d_model * ratio)
        self.sampling_offsets = nn.Linear(d_model, n_heads * n_levels * n_points * 2)
        self.attention_weights = nn.Linear(d_model, n_heads * n_levels * n_points)
        self.value_proj, self.output_proj = nn.Linear(d_model, width), nn.Linear(width, d_model)
        nn.init.zeros_(self.sampling_offsets.weight)

    def forward(self, query, reference_points, feat, spatial_shapes, level_start_index):
        value = self.value_proj(feat).unflatten(-1, (self.n_heads, -1)).contiguous()
        offsets = self.sampling_offsets(query).unflatten(-1, (*self.shape, 2))
        weights = self.attention_weights(query).unflatten(-1, (self.n_heads, -1)).softmax(-1).unflatten(-1, self.shape[1:])
        sizes = spatial_shapes.flip(-1)[:, None].to(offsets)
        locations = reference_points[:, :, None, :, None] + offsets / sizes
        output = MSDeformAttnFunction.apply(
            value, spatial_shapes, level_start_index, locations.contiguous(), weights.contiguous(), self.im2col_step
        )
        return self.output_proj(output)
