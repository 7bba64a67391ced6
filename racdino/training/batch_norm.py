"""Batch normalisation over the batches of all processes, on CPU (gloo) and CUDA (nccl).

torch's SyncBatchNorm works on CUDA only. Statistics are merged by count (Chan et al. 1979, "Updating formulae and a
pairwise algorithm for computing sample variances"), so that processes may hold different numbers of values, radar
pillars for one, and the result is that of torch's own layer on all batches together, gradients included.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from racdino.training import processes


def reduce_batch_norm(module: nn.Module) -> nn.Module:
    """Replace each BatchNorm1d/2d/3d in ``module`` by its reduced kind, with the same parameters, buffers and names.

    Returns ``module``, or the replacement where it is a batch norm itself. In eval mode, and for a single process, the
    reduced kinds are torch's layers. Layers of other classes, subclasses too, stay.
    """
    for name, child in module.named_children():
        setattr(module, name, reduce_batch_norm(child))
    kind = _KINDS.get(type(module))
    if kind is None:
        return module
    reduced = kind.__new__(kind)
    reduced.__dict__ = module.__dict__
    return reduced


class _Reduced(nn.modules.batchnorm._BatchNorm):
    def forward(self, input: Tensor) -> Tensor:
        uses_batch = self.training or self.running_mean is None
        if not uses_batch or processes.count() == 1:
            return super().forward(input)
        self._check_input_dim(input)
        output, mean, variance, total = _Normalise.apply(input, self.weight, self.bias, self.eps)
        if self.training and self.running_mean is not None and self.running_var is not None:
            self._update(mean, variance, total)
        return output

    @torch.no_grad()
    def _update(self, mean: Tensor, variance: Tensor, total: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        factor = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        unbiased = variance * (total / (total - 1))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), factor)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), factor)


class ReducedBatchNorm1d(_Reduced, nn.BatchNorm1d):
    """BatchNorm1d over all processes."""


class ReducedBatchNorm2d(_Reduced, nn.BatchNorm2d):
    """BatchNorm2d over all processes."""


class ReducedBatchNorm3d(_Reduced, nn.BatchNorm3d):
    """BatchNorm3d over all processes."""


_KINDS: dict[type, type[_Reduced]] = {
    nn.BatchNorm1d: ReducedBatchNorm1d,
    nn.BatchNorm2d: ReducedBatchNorm2d,
    nn.BatchNorm3d: ReducedBatchNorm3d,
}


class _Normalise(torch.autograd.Function):
    """(N, C, *) to the same, normalised per channel over N, * and the processes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        values = _channels_first(x)  # (C, count)
        count = values.new_full((1,), values.shape[1])
        own_mean = values.sum(1) / count.clamp(min=1)
        own_squares = (values - own_mean[:, None]).square().sum(1)
        shares = _gather(torch.cat([count, own_mean, own_squares]))  # (processes, 1 + 2C)
        counts, means, squares = shares.split([1, len(own_mean), len(own_mean)], dim=1)
        total = counts.sum()
        if total <= 1:
            raise ValueError(f"batch norm needs more than one value per channel, got {int(total)} in all processes")
        mean = (counts * means).sum(0) / total
        variance = (squares.sum(0) + (counts * (means - mean).square()).sum(0)) / total
        scale = (variance + eps).rsqrt()
        normalised = (values - mean[:, None]) * scale[:, None]
        output = normalised if weight is None else normalised * weight[:, None].to(values.dtype)
        output = output if bias is None else output + bias[:, None].to(values.dtype)
        ctx.save_for_backward(normalised, scale, weight, total)
        ctx.like = x.shape, x.dtype
        ctx.mark_non_differentiable(mean, variance, total)
        return _as_before(output, *ctx.like), mean, variance, total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        normalised, scale, weight, total = ctx.saved_tensors
        incoming = _channels_first(gradient).to(normalised.dtype)
        own_bias, own_weight = incoming.sum(1), (incoming * normalised).sum(1)
        sums = torch.stack([own_bias, own_weight])
        if weight is not None:
            sums = sums * weight.to(sums.dtype)
            incoming = incoming * weight[:, None].to(incoming.dtype)
        dist.all_reduce(sums)
        of_x = scale[:, None] * (incoming - (sums[0][:, None] + normalised * sums[1][:, None]) / total)
        own = None if weight is None else (own_weight.to(weight.dtype), own_bias.to(weight.dtype))
        return _as_before(of_x, *ctx.like), own and own[0], own and own[1], None


def _channels_first(x: Tensor) -> Tensor:
    """(N, C, *) to (C, N * the rest) in float32, or float64 where it was."""
    flat = x.transpose(0, 1).reshape(x.shape[1], -1)
    return flat if flat.dtype == torch.float64 else flat.float()


def _as_before(values: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    return values.reshape(shape[1], shape[0], *shape[2:]).transpose(0, 1).to(dtype)


def _gather(share: Tensor) -> Tensor:
    shares = [torch.empty_like(share) for _ in range(processes.count())]
    dist.all_gather(shares, share)
    return torch.stack(shares)
