"""Multi-scale deformable attention in plain torch: slow, readable, any dtype, device and order of derivative."""

from __future__ import annotations

from torch import Tensor


def ms_deform_attn_reference(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """What `ms_deform_attn` computes, written down corner by corner. Same arguments, same result.

    The arithmetic is done in the dtype of each argument: hand in float64 to get a reference for the shorter types.
    """
    B, _, M, D = value.shape
    Q, P = sampling_locations.shape[1], sampling_locations.shape[4]
    output = value.new_zeros((B, Q, M, D))
    for level, ((H, W), start) in enumerate(zip(spatial_shapes.tolist(), level_start_index.tolist(), strict=True)):
        pixels = value[:, start : start + H * W].permute(0, 2, 1, 3)  # (B, M, H*W, D)
        x = sampling_locations[:, :, :, level, :, 0] * W - 0.5  # (B, Q, M, P)
        y = sampling_locations[:, :, :, level, :, 1] * H - 0.5
        counts = (x > -1) & (x < W) & (y > -1) & (y < H)  # false for NaN
        x, y = x.masked_fill(~counts, 0), y.masked_fill(~counts, 0)
        x0, y0 = x.detach().floor(), y.detach().floor()
        for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
            column, row = x0 + dx, y0 + dy
            inside = counts & (column >= 0) & (column < W) & (row >= 0) & (row < H)
            factor = (1 - (x - column).abs()) * (1 - (y - row).abs()) * attention_weights[:, :, :, level]
            index = (row.clamp(0, H - 1) * W + column.clamp(0, W - 1)).long()
            index = index.permute(0, 2, 1, 3).reshape(B, M, Q * P, 1).expand(-1, -1, -1, D)
            corner = pixels.gather(2, index).view(B, M, Q, P, D).permute(0, 2, 1, 3, 4)  # (B, Q, M, P, D)
            weighted = (corner * factor.unsqueeze(-1)).masked_fill(~inside.unsqueeze(-1), 0)
            output = output + weighted.sum(3).to(output.dtype)
    return output.view(B, Q, M * D)
